"""A pull towards what the starting model knew: features must stay near those of a frozen copy (ComCLIP).

    l_anchor = weight * mean over images and texts of ||u - u0||^2        u, u0 L2-normalised, of the two models

The price: each step computes the features once more, without gradient (about a third of a step), and a second copy of
the weights lies in memory. The copy runs in evaluation mode, whatever dropout or BatchNorm the trained model has, and
draws no random number. It is no part of checkpoints: a resumed run makes it again from model.pretrained.

Legend: B pairs of this rank, D embedding width.
"""

import copy
from typing import Any

import torch
from torch import nn

from helip.errors import HelipError


class Anchor:
    """The frozen copy and its weight. Not a module: its weights are neither trained, averaged, saved nor checked.

    Args:
        model: an open_clip model made with output_dict=True, as the training begins with it.
        weight: of the loss term, above 0.
    """

    def __init__(self, model: nn.Module, weight: float) -> None:
        if not weight > 0:
            raise HelipError(f"train.anchor is {weight}: give null, or a weight above 0")
        self.model: Any = copy.deepcopy(model).eval().requires_grad_(False)
        self.weight = float(weight)

    def __deepcopy__(self, memo: Any) -> "Anchor":
        """Who copies a module, an average say, needs no second frozen model."""
        return self

    def __call__(
        self, features: dict[str, torch.Tensor], image: torch.Tensor, text: torch.Tensor, parts: int = 1
    ) -> torch.Tensor:
        """() the weighted term of this rank's pairs; its mean over ranks is that of the global batch.

        Args:
            features: image_features and text_features (B, D) of the trained model, L2-normalised.
            image: (B, 3, H, W); text: (B, L), what they were made from.
            parts: in which the batch passes the copy.
        """
        if next(self.model.parameters()).device != image.device:
            self.model.to(image.device)
        with torch.no_grad():
            halves = [
                self.model(image=images, text=texts)
                for images, texts in zip(image.chunk(parts), text.chunk(parts), strict=True)
            ]
        distances = [
            squared_distance(features[name], torch.cat([half[name] for half in halves])).mean()
            for name in ("image_features", "text_features")
        ]
        return self.weight * torch.stack(distances).mean()


def squared_distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(B, D) and (B, D) -> (B,) squared distances of the rows, in float32 or better: 0 to 4 for unit vectors."""
    dtype = torch.promote_types(one.dtype, torch.float32)
    return (one.to(dtype) - other.to(dtype)).square().sum(1)
