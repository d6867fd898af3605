"""Writing and pruning of checkpoints."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from helip.ranks import is_logged
from helip.training.metrics_log import MetricsLog
from helip.training.nan_guard import check_finite
from helip.training.run_files import checkpoints_in

EXIT_SIGTERM = 128 + signal.SIGTERM  # the exit status that a shell reports for SIGTERM


class Checkpoints(Checkpoint):
    """Writes step-000500.ckpt at intervals of steps or minutes, after the last step, and when SIGTERM ends the run.

    One callback writes all of them, so that it keeps the newest `keep` files. Lightning writes each file under another
    name first. All ranks decide together; with several ranks, a signal or the timer takes effect one step later, so
    that no step waits for the decision. If the loss or the weights of a step are not finite, the run ends without a
    checkpoint, which would displace the last good one.

    Args:
        folder: for the files.
        every_steps: optimizer steps between checkpoints.
        every_minutes: minutes between checkpoints; None: no timer.
        keep: number of newest files to keep; -1: all.
    """

    def __init__(self, folder: Path, every_steps: int, every_minutes: float | None = None, keep: int = 2) -> None:
        super().__init__()
        self.folder, self.every_steps, self.every_minutes, self.keep = folder, every_steps, every_minutes, keep
        self._saved = -1
        self._terminated = False
        self._clock = 0.0
        self._before: Any = None
        self._asked = Asked()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's SIGTERM handler, which runs a collective at the moment of the signal."""
        self._clock, self._asked = time.monotonic(), Asked()
        self._saved = trainer.global_step if trainer.global_step else -1  # the checkpoint of a resumed step exists
        self._before = signal.signal(signal.SIGTERM, self._on_sigterm)
        if trainer.received_sigterm:
            # while the loader started: Lightning would exit after step 1 with status 0 and without a checkpoint
            if trainer.is_global_zero:
                print("SIGTERM: stopped before the first step", file=sys.stderr, flush=True)
            raise SystemExit(EXIT_SIGTERM)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the handler of SIGTERM; after a successful fit Lightning has done so already."""
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, self._before)
        self._before = None

    def _on_sigterm(self, number: int, frame: Any) -> None:
        self._terminated = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Write a checkpoint if it is due; after SIGTERM, exit with status 143 when the step is on disk."""
        step = trainer.global_step
        terminated, late = self._asked.answers(trainer, (self._terminated, self._late()))
        due = step == trainer.max_steps or step % self.every_steps == 0
        if (due or late or terminated) and step != self._saved:
            check_finite(trainer, pl_module, outputs["loss"], self.folder, weights=True)
            self._save(trainer)
        if trainer.world_size > 1 and step < trainer.max_steps and not terminated:
            self._asked.ask(trainer, (self._terminated, self._late()))  # after a save, which resets the timer
        if terminated:
            self._leave(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exit after a signal that came while the last checkpoint was written."""
        if self._terminated:
            self._leave(trainer)

    def _leave(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        path = self.folder / f"step-{step:06d}.ckpt"
        if trainer.is_global_zero:
            print(f"SIGTERM: stopped after step {step}; train.resume={path} resumes", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_SIGTERM)

    def _late(self) -> bool:
        return self.every_minutes is not None and time.monotonic() - self._clock >= 60 * self.every_minutes

    def _save(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        log_ahead(trainer)
        trainer.save_checkpoint(self.folder / f"step-{step:06d}.ckpt")
        self._saved, self._clock = step, time.monotonic()
        if trainer.is_global_zero and self.keep > 0:
            for path in checkpoints_in(self.folder)[: -self.keep]:
                path.unlink(missing_ok=True)


def log_ahead(trainer: pl.Trainer) -> None:
    """Write the line of this step to metrics.csv before Lightning does, which is after the callbacks.

    If the run ended in between, it would resume after this step, and the line would be missing.
    """
    if is_logged(trainer, trainer.global_step):
        for log in trainer.loggers:
            if isinstance(log, MetricsLog):
                log.ahead(trainer.logged_metrics, trainer.global_step - 1, trainer.current_epoch)


class Asked:
    """Requests of any rank, known to all ranks at the next step.

    The sum over ranks is started after one step and read after the next. Reading it at once would empty the queue of a
    GPU at every step.
    """

    def __init__(self) -> None:
        self._sum: torch.Tensor | None = None
        self._work: Any = None

    def ask(self, trainer: pl.Trainer, wishes: tuple[bool, ...]) -> None:
        """Start the sum; all ranks call it after the same steps."""
        if trainer.world_size > 1:
            device = trainer.strategy.root_device
            # torch.full needs no copy from the host, which would wait for the device
            self._sum = torch.stack([torch.full((), float(wish), device=device) for wish in wishes])
            self._work = torch.distributed.all_reduce(self._sum, async_op=True)

    def answers(self, trainer: pl.Trainer, wishes: tuple[bool, ...]) -> tuple[bool, ...]:
        """The requests of all ranks at the last step; with one rank, the current ones."""
        if trainer.world_size == 1:
            return wishes
        if self._sum is None:
            return (False,) * len(wishes)
        self._work.wait()
        found, self._sum = self._sum, None
        return tuple(count > 0 for count in found.tolist())
