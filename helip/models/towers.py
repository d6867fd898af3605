"""Changes to a model for training: locked towers, gradient checkpointing, torch.compile, micro-batches."""

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
        lock_image: number of final groups of the image tower left trainable (LiT, arXiv 2111.07991); None trains all. A
            group is defined by open_clip's tower: a transformer block, or projection and last norm.
        lock_text: the same for the layers of the text tower.
        grad_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        compile: torch.compile the forward pass of both towers; the first steps are slow.
        logit_scale: None trains the temperature, starting at the checkpoint's; a number, 1 to 100, fixes its factor.
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
                raise HelipError(f"train.{name} is {value}: give null, or the number of final groups left trainable")


def prepare_towers(model: Any, settings: TowerSettings) -> None:
    """Apply the settings to an open_clip model in place, without changing names in its state dict.

    Raises:
        HelipError: a tower cannot be locked in part, or does not support gradient checkpointing.
    """
    for name in ("lock_image", "lock_text"):
        unlocked = getattr(settings, name)
        if unlocked is None:
            continue
        try:
            getattr(model, f"{name}_tower")(unlocked)
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
        model.compile()  # in place: torch.compile(model) would prefix names with _orig_mod.


def is_convolutional(tower: nn.Module) -> bool:
    """Whether a tower has convolutions besides the patch embedding of a transformer."""
    return sum(isinstance(module, nn.Conv2d) for module in tower.modules()) > 1


def forward_in_parts(model: Any, image: torch.Tensor, text: torch.Tensor, parts: int) -> dict[str, torch.Tensor]:
    """The features of a batch, computed in micro-batches to save memory; one loss over the whole batch.

    The forward pass of each micro-batch runs without storing activations, and again in the backward pass (GradCache,
    arXiv 2101.06983; open_clip's --accum-freq). torch's checkpoint does this per micro-batch, with one loss, one
    backward pass, one reduction over ranks and the same dropout in both passes. BatchNorm sees micro-batches.

    Args:
        model: an open_clip model made with output_dict=True.
        image: (B, 3, H, W).
        text: (B, L).
        parts: number of micro-batches; 1 is the plain forward pass.

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
