"""Logs the speed of a run: open_clip's batch_time, data_time and samples_per_second, and the share of waiting."""

import warnings
from time import perf_counter
from typing import Any

import pytorch_lightning as pl

from helip.ranks import is_logged

WAITS = 0.1  # assumption: share of waiting above which slow reads are reported


class SpeedMonitor(pl.Callback):
    """Means over the steps since the last log.

    data_time is the waiting time between two steps. It excludes validation, and checkpoints if this callback precedes
    theirs. data_wait_share is an upper bound on a GPU, because the device may still be busy while the host waits.

    Args:
        read_rate: random reads per second of all workers of this rank, measured before training, or None. Reads that
            limit the training are reported once.
    """

    def __init__(self, read_rate: float | None = None) -> None:
        self.read_rate = read_rate
        self._restart()

    def _restart(self) -> None:
        self._ended: float | None = None
        self._waited = self._elapsed = 0.0
        self._steps = self._pairs = 0

    def on_train_start(self, *_: Any) -> None:
        """Discard the times of an earlier fit."""
        self._restart()

    def on_validation_end(self, *_: Any) -> None:
        """Exclude the time of a validation."""
        self._ended = None

    def on_train_batch_start(self, *_: Any) -> None:
        """The waiting time ends here."""
        self._began = perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the time of the step, and log if the trainer does; leaves out the first step after a pause."""
        now = perf_counter()
        if self._ended is not None:
            self._waited += self._began - self._ended
            self._elapsed += now - self._ended
            self._steps += 1
            self._pairs += len(batch["target"])
        if self._steps and is_logged(trainer, trainer.global_step):
            share, per_second = self._waited / self._elapsed, self._pairs / self._elapsed
            needed = self._pairs / max(1e-9, self._elapsed - self._waited)
            if warning := slow_reads(self.read_rate, needed, share):
                warnings.warn(warning, stacklevel=2)
                self.read_rate = None
            pl_module.log_dict(
                {
                    "train/batch_time": self._elapsed / self._steps,
                    "train/data_time": self._waited / self._steps,
                    "train/data_wait_share": share,
                    "train/samples_per_second": per_second * trainer.world_size,
                    "train/samples_per_second_per_gpu": per_second,
                }
            )
            self._restart()
        self._ended = perf_counter()


def slow_reads(read_rate: float | None, needed: float, share: float) -> str | None:
    """A warning if a model that could take `needed` pairs/s waits for slower reads; `share` is the share of waiting."""
    if read_rate is None or share <= WAITS or read_rate >= needed:
        return None
    return (
        f"training waits for data {share:.0%} of the time: random reads from the shards run at {read_rate:,.0f} pairs/s"
        f" and the model could take {needed:,.0f}; copy the shards to a local disk, raise data.workers, or lower"
        " data.window so that targets lie closer together"
    )
