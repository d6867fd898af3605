"""Logs the speed of a run: open_clip's batch_time, data_time and samples_per_second, and the share of waiting."""

import warnings
from time import perf_counter
from typing import Any

import pytorch_lightning as pl

WAITS = 0.1  # assumption: share of waiting above which slow reads are reported


class SpeedMonitor(pl.Callback):
    """Means over the steps since the last log.

    data_time is the waiting time between two steps. It excludes validation, and checkpoints if this callback precedes
    theirs. data_wait_share is an upper bound on a GPU, because the device may still be busy while the host waits.

    Args:
        read_rate: random reads per second of all workers of this rank, measured before training, or None. Reads that
            are slower than the model are reported once.
    """

    def __init__(self, read_rate: float | None = None) -> None:
        self.read_rate = read_rate
        self._restart()

    def _restart(self) -> None:
        self._ended: float | None = None
        self._waited = self._elapsed = 0.0
        self._steps = self._pairs = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Discard the times of an earlier fit."""
        self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exclude the time of a validation."""
        self._ended = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Add the waiting time."""
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
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self._steps and every and trainer.global_step % every == 0:
            per_second = self._pairs / self._elapsed
            self._compare_reads(self._pairs / max(1e-9, self._elapsed - self._waited))
            pl_module.log_dict(
                {
                    "train/batch_time": self._elapsed / self._steps,
                    "train/data_time": self._waited / self._steps,
                    "train/data_wait_share": self._waited / self._elapsed,
                    "train/samples_per_second": per_second * trainer.world_size,
                    "train/samples_per_second_per_gpu": per_second,
                }
            )
            self._restart()
        self._ended = perf_counter()

    def _compare_reads(self, needed: float) -> None:
        """Warn if the model waits and consumes `needed` pairs per second, more than random reads deliver."""
        if self.read_rate is not None and self._waited > WAITS * self._elapsed and self.read_rate < needed:
            warnings.warn(
                f"training waits for data {self._waited / self._elapsed:.0%} of the time: random reads from the shards"
                f" run at {self.read_rate:,.0f} pairs/s and the model could take {needed:,.0f}; copy the shards to a"
                " local disk, raise data.workers, or lower data.window so that targets lie closer together",
                stacklevel=2,
            )
            self.read_rate = None
