"""An exponential moving average of the weights, by Lightning's own callback."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging

from helip.errors import HelipError


class Ema(EMAWeightAveraging):
    """The average is what checkpoints hold as `state_dict` and what the module holds after training.

    The trained weights travel beside it as `current_model_state`, so a resumed run goes on exactly. It stands before
    callbacks that evaluate at the end.

    Args:
        decay: share of the average that a step keeps; 0.999 averages about the last 1,000 steps.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise HelipError(f"train.ema is {decay}: give null, or a decay between 0 and 1 such as 0.999")
        super().__init__(decay=decay)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning copies in on_train_end, which a run that is resumed at its last step never reaches."""
        self._copy_average_to_current(pl_module)

    @contextmanager
    def averaged(self, module: pl.LightningModule) -> Iterator[None]:
        """Inside, the module holds the average; after the first step only, and not once training has ended."""
        swap = self._average_model is not None and module.trainer.training and self._latest_update_step > 0
        if swap:
            self._swap_models(module)
        try:
            yield
        finally:
            if swap:
                self._swap_models(module)
