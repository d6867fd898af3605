"""Evaluate CLIP checkpoints: python evaluate.py checkpoint=FILE"""

from helip.cli import launch

if __name__ == "__main__":
    launch("evaluate")
