"""What of a model is trained and how its forward runs: locked towers, gradient checkpointing, torch.compile."""

from dataclasses import dataclass
from typing import Any

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
    """

    lock_image: int | None = None
    lock_text: int | None = None
    grad_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
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
    if settings.compile:
        model.compile()  # in place: torch.compile(model) would put _orig_mod. before every name
