"""Mine the hard pairs of a dataset: python mine.py dataset=cc3m helip.topk=50"""

from helip.cli import launch

if __name__ == "__main__":
    launch("mine")
