"""Continue the training of a CLIP model with hard pairs: python train.py dataset=cc3m helip.topk=20"""

from helip.cli import launch

if __name__ == "__main__":
    launch("train")
