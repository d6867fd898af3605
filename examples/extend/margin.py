"""A margin: a negative is to be the further, the more alike its image and its text both are, as the joint score is.

helip train --config-dir examples/extend/conf helip.margin=joint helip.margin.gamma=0.2
"""

import torch

from helip.training.margins import Block, Margin


class JointMargin(Margin):
    """M = gamma * (I I^t) * (T T^t) without a gradient; the loss leaves out the pair itself and its duplicates."""

    def __init__(self, gamma: float = 0.1) -> None:
        self.gamma = gamma

    def offset(self, block: Block) -> torch.Tensor:
        own, kind = block.pairs.own, block.image_rows.dtype
        image, text = (side.detach().to(kind) for side in (block.all_image, block.all_text))  # (M, D)
        return self.gamma * (image[own] @ image.T) * (text[own] @ text.T)  # (R, M)
