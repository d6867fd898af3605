"""Ends a training whose loss or weights are not finite, with an error."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from helip.errors import HelipError
from helip.ranks import is_logged
from helip.training.run_files import newest_good


class NanGuard(pl.Callback):
    """Checks the loss of logged steps, and the weights after the last step.

    It must precede callbacks that evaluate. `Checkpoints` makes its own check.

    Args:
        folder: of the checkpoints, for the message.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        last = trainer.global_step == trainer.max_steps
        if last or is_logged(trainer, trainer.global_step):
            check_finite(trainer, pl_module, outputs["loss"], self.folder, weights=last)


def check_finite(
    trainer: pl.Trainer, module: pl.LightningModule, loss: torch.Tensor, folder: Path, weights: bool
) -> None:
    """Check loss and weights on all ranks, which must call this after the same steps.

    Waits for the device, so call it only where something is logged or written.

    Args:
        loss: this rank's part of the loss of the step.
        folder: of the checkpoints, for the message.
        weights: also check the weights, which were updated after the loss was computed.

    Raises:
        HelipError: the loss or a weight is not finite on any rank; steps skipped by a gradient scaler do not count.
    """
    finite = bool(trainer.strategy.reduce(loss.detach().float().clone()).isfinite())  # reduced in place
    if finite and not weights:
        return
    sound = all_finite(module)
    if sound and (finite or _skipped(trainer)):
        return
    newest = newest_good(folder)[0] or trainer.ckpt_path  # non-finite ones are never written
    raise HelipError(
        f"the {'weights after' if finite else 'loss of'} step {trainer.global_step} {'are' if finite else 'is'} not"
        " finite: the training has diverged; start again with a lower optim.lr or a longer optim.warmup"
        + (f", or resume from {newest} with train.allow_change=true" if newest else "")
    )


def all_finite(module: pl.LightningModule) -> bool:
    """Whether all parameters are finite."""
    return bool(torch.stack([parameter.detach().isfinite().all() for parameter in module.parameters()]).all())


def _skipped(trainer: pl.Trainer) -> bool:
    """Whether a gradient scaler skipped the step; its scale is below 1 once all steps overflow."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler is not None and scaler.get_scale() >= 1
