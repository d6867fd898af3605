"""A loss: CLIP's with a term that pulls the two halves of each pair together (alignment, arXiv 2005.10242).

helip train --config-dir examples/extend/conf train.loss=aligned train.loss.weight=0.5
"""

from typing import Any

import torch

from helip.training.losses import HelipLoss


class AlignedLoss(HelipLoss):
    """Terms whose names end in `_loss` sum to the loss; a mean over this rank's pairs is that of all, by DDP."""

    def __init__(self, weight: float = 0.1, **more: Any) -> None:
        super().__init__(**more)
        self.weight = weight

    def forward(self, image_features: torch.Tensor, text_features: torch.Tensor, *args: Any, **more: Any) -> Any:
        terms = super().forward(image_features, text_features, *args, **more)  # features: (B, D), of unit length
        distance = (image_features - text_features).float().square().sum(dim=1)  # (B,)
        return {**terms, "alignment_loss": self.weight * distance.mean()}
