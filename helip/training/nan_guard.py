"""The end of a training whose loss or weights are no longer finite: it must not pass for a success."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from helip.errors import HelipError
from helip.training.run_files import newest_good


class NanGuard(pl.Callback):
    """Looks at the loss of the steps that are logged, and at the weights after the last step.

    It stands first, before callbacks that evaluate. Checkpoints look for themselves.

    Args:
        folder: of the checkpoints, for the sentence.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last, every = trainer.global_step == trainer.max_steps, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if last or (every and trainer.global_step % every == 0):
            check_finite(trainer, pl_module, outputs["loss"], self.folder, weights=last)


def check_finite(
    trainer: pl.Trainer, module: pl.LightningModule, loss: torch.Tensor, folder: Path, weights: bool
) -> None:
    """All ranks call it after the same steps, and agree: a loss that is not finite on one is none on all.

    It waits for the device, so it belongs where something is written anyway.

    Args:
        loss: of this rank's part of the step.
        folder: of the checkpoints.
        weights: look at them even if the loss is finite, which was computed before they were updated.

    Raises:
        HelipError: the loss is not finite, or the weights are not; a step that a gradient scaler skipped is neither.
    """
    finite = bool(trainer.strategy.reduce(loss.detach().float().clone()).isfinite())  # reduced in place
    if finite and not weights:
        return
    sound = all_finite(module)
    if sound and (finite or _skipped(trainer)):
        return
    newest = newest_good(folder)[0] or trainer.ckpt_path  # those that were not finite have not been written
    raise HelipError(
        f"the {'weights after' if finite else 'loss of'} step {trainer.global_step} {'are' if finite else 'is'} not"
        " finite: the training has diverged; begin again with a lower optim.lr or a longer optim.warmup"
        + (f", or go on from {newest} with train.allow_change=true" if newest else "")
    )


def all_finite(module: pl.LightningModule) -> bool:
    """Whether every parameter is."""
    return bool(torch.stack([parameter.detach().isfinite().all() for parameter in module.parameters()]).all())


def _skipped(trainer: pl.Trainer) -> bool:
    """A gradient scaler skips a step that overflows and halves its scale, which is below 1 when all steps overflow."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler is not None and scaler.get_scale() >= 1
