"""A loss term that keeps features near those of a frozen copy of the starting model (ComCLIP).

    l_anchor = weight * mean over images and texts of ||u - u0||^2        u, u0 L2-normalised, of the two models

Cost: one more forward pass per step without gradient (about a third of a step), and a second copy of the weights. The
copy runs in evaluation mode and draws no random numbers. Checkpoints do not contain it: a resumed run rebuilds it from
model.pretrained.

Legend: B pairs of this rank, D embedding width.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Anchor:
    """The frozen copy and its weight. Not a module, so that its weights are not trained, averaged, saved or checked.

    Args:
        model: the starting model, from open_clip with output_dict=True.
        weight: of the loss term, above 0.
    """

    def __init__(self, model: nn.Module, weight: float) -> None:
        self.model: Any = copy.deepcopy(model).eval().requires_grad_(False)
        self.weight = weight

    def __deepcopy__(self, memo: Any) -> "Anchor":
        """Share the frozen model between copies of a module, such as the average of EMA."""
        return self

    def __call__(self, features: dict[str, Tensor], image: Tensor, text: Tensor, parts: int = 1) -> Tensor:
        """() the weighted term of this rank's pairs; the mean over ranks is the term of the global batch.

        Args:
            features: image_features and text_features (B, D) of the trained model, L2-normalised.
            image: (B, 3, H, W), the input of the features.
            text: (B, L), likewise.
            parts: number of micro-batches of the forward pass.
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


def squared_distance(one: Tensor, other: Tensor) -> Tensor:
    """(B, D) and (B, D) -> (B,) squared distances of rows in at least float32; 0 to 4 for unit vectors."""
    dtype = torch.promote_types(one.dtype, torch.float32)
    return (one.to(dtype) - other.to(dtype)).square().sum(1)
