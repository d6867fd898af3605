"""What of a model is trained and how its forward runs: locked towers, gradient checkpointing, torch.compile, parts."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from helip.errors import HelipError


@dataclass(frozen=True)
class TowerSettings:
    """Changes to an open_clip model before training.

    Args:
        lock_image: None trains the image tower; a number locks all of it but its last so many groups (LiT, arXiv
            2111.07991). A group is what open_clip's tower calls one: a transformer block, or projection and last norm.
        lock_text: the same for the text tower and its layers.
        grad_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        compile: torch.compile the forward pass of both towers together; the first steps are slow.
        logit_scale: None trains the temperature from the checkpoint's on; a number, 1 to 100, is its factor throughout.
    """

    lock_image: int | None = None
    lock_text: int | None = None
    grad_checkpointing: bool = False
    compile: bool = False
    logit_scale: float | None = None

    def __post_init__(self) -> None:
        if self.logit_scale is not None and not 1 <= self.logit_scale <= 100:
            raise HelipError(
                f"train.logit_scale is {self.logit_scale}: give null to train the temperature, or a factor 1 to 100"
            )
        for name in ("lock_image", "lock_text"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise HelipError(f"train.{name} is {value}: give null, or how many of the last groups stay unlocked")


def prepare_towers(model: Any, settings: TowerSettings) -> None:
    """Apply the settings to an open_clip model, in place; names in its state dict stay as they are.

    Raises:
        HelipError: if a tower has no groups to unlock, or cannot checkpoint.
    """
    lock = {"lock_image": "lock_image_tower", "lock_text": "lock_text_tower"}
    for name, method in lock.items():
        unlocked = getattr(settings, name)
        if unlocked is None:
            continue
        try:
            getattr(model, method)(unlocked)
        except (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, TypeError) as error:
            raise HelipError(
                f"train.{name}={unlocked}: this {type(model).__name__} cannot lock that tower"
                f"{' in part; give 0' if unlocked else ''} ({str(error)[:80] or type(error).__name__})"
            ) from error
    if settings.grad_checkpointing:
        try:
            model.set_grad_checkpointing()
        except (AttributeError, NotImplementedError, AssertionError) as error:
            raise HelipError(
                f"train.grad_checkpointing=true: this {type(model).__name__} cannot recompute its activations"
            ) from error
    if settings.logit_scale is not None:
        with torch.no_grad():
            model.logit_scale.fill_(math.log(settings.logit_scale))
        model.logit_scale.requires_grad_(False)
    if settings.compile:
        model.compile()  # in place: torch.compile(model) would put _orig_mod. before every name


def is_convolutional(tower: nn.Module) -> bool:
    """Whether a tower convolves beyond the patch embedding that a transformer begins with."""
    return sum(isinstance(module, nn.Conv2d) for module in tower.modules()) > 1


def forward_in_parts(model: Any, image: torch.Tensor, text: torch.Tensor, parts: int) -> dict[str, torch.Tensor]:
    """The features of a batch whose activations do not fit in memory at once, for one loss over all of them.

    Each part passes the towers twice, without activations and again in the backward pass (GradCache, arXiv 2101.06983;
    open_clip's --accum-freq): here torch's checkpoint, whose unit is the part, so that there is one loss, one backward
    pass and one reduction over ranks, and dropout draws the same both times. BatchNorm sees parts, not the batch.

    Args:
        model: an open_clip model made with output_dict=True.
        image: (B, 3, H, W).
        text: (B, L).
        parts: 1 is the plain forward.

    Returns:
        What the model returns, features (B, D).
    """
    if parts == 1:
        return model(image=image, text=text)

    def features(images: torch.Tensor, texts: torch.Tensor) -> dict[str, torch.Tensor]:
        return model(image=images, text=texts)

    outputs: list[dict[str, torch.Tensor]] = [
        checkpoint(features, images, texts, use_reentrant=False)  # type: ignore[misc]
        for images, texts in zip(image.chunk(parts), text.chunk(parts), strict=True)
    ]
    joined = {name: torch.cat([output[name] for output in outputs]) for name in ("image_features", "text_features")}
    return outputs[0] | joined
