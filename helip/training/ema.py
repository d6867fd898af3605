"""An exponential moving average of the weights, based on Lightning's callback."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging


class Ema(EMAWeightAveraging):
    """Checkpoints hold the average as `state_dict`, and the module holds it after training.

    Checkpoints also hold the trained weights as `current_model_state`, for an exact resume. This callback must precede
    callbacks that evaluate at the end.

    Args:
        decay: share of the average that a step keeps, between 0 and 1; 0.999 averages about the last 1,000 steps.
    """

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the average also if a run is resumed at its last step, where Lightning does not call on_train_end."""
        self._copy_average_to_current(pl_module)

    @contextmanager
    def averaged(self, module: pl.LightningModule) -> Iterator[None]:
        """Put the average into the module inside the block, between the first step and the end of training."""
        swap = self._average_model is not None and module.trainer.training and self._latest_update_step > 0
        if swap:
            self._swap_models(module)
        try:
            yield
        finally:
            if swap:
                self._swap_models(module)
