"""When checkpoints are written, which are kept, and how the newest good one is found again."""

import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from helip.errors import HelipError

EXIT_SIGTERM = 128 + signal.SIGTERM  # what a shell reports for a process that SIGTERM ended


class Checkpoints(Checkpoint):
    """Writes step-000500.ckpt every so many steps or minutes, after the last step, and before SIGTERM ends the run.

    One callback for all of them, so that the newest `keep` files are kept whatever caused them. Lightning writes each
    file under another name first. Decisions are taken by all ranks together.

    Args:
        folder: for the files.
        every_steps: optimizer steps between checkpoints; 0: none by steps.
        every_minutes: minutes between checkpoints; None: none by time.
        keep: files to keep, the newest; -1: all.
    """

    def __init__(self, folder: Path, every_steps: int, every_minutes: float | None = None, keep: int = 2) -> None:
        super().__init__()
        if every_steps < 0 or (every_minutes is not None and every_minutes <= 0) or not (keep == -1 or keep > 0):
            raise HelipError(
                f"train.checkpoint_every={every_steps} and train.checkpoint_minutes={every_minutes}: give steps of at"
                " least 0 and minutes above 0"
            )
        self.folder, self.every_steps, self.every_minutes, self.keep = folder, every_steps, every_minutes, keep
        self._saved = -1
        self._terminated = False
        self._clock = 0.0
        self._before: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM over from Lightning, whose handler runs a collective wherever the signal happens to arrive."""
        self._clock = time.monotonic()
        self._saved = trainer.global_step if trainer.global_step else -1  # what a resumed run starts from exists
        self._before = signal.signal(signal.SIGTERM, self._on_sigterm)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give SIGTERM back."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _on_sigterm(self, number: int, frame: Any) -> None:
        self._terminated = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save if it is time; after SIGTERM leave with status 143, the step being complete and on disk."""
        step = trainer.global_step
        late = self.every_minutes is not None and time.monotonic() - self._clock >= 60 * self.every_minutes
        terminated = _any_rank(trainer, self._terminated)
        late = self.every_minutes is not None and _any_rank(trainer, late)
        due = step == trainer.max_steps or (self.every_steps > 0 and step % self.every_steps == 0)
        if due or late or terminated:
            self._save(trainer)
        if terminated:
            path = self.folder / f"step-{step:06d}.ckpt"
            if trainer.is_global_zero:
                print(f"SIGTERM: stopped after step {step}; train.resume={path} goes on", file=sys.stderr, flush=True)
            raise SystemExit(EXIT_SIGTERM)

    def _save(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        if step == self._saved:
            return
        trainer.save_checkpoint(self.folder / f"step-{step:06d}.ckpt")
        self._saved, self._clock = step, time.monotonic()
        if trainer.is_global_zero and self.keep > 0:
            for path in checkpoints_in(self.folder)[: -self.keep]:
                path.unlink(missing_ok=True)


def _any_rank(trainer: pl.Trainer, decision: bool) -> bool:
    return bool(trainer.strategy.reduce_boolean_decision(decision, all=False)) if trainer.world_size > 1 else decision


def checkpoints_in(folder: Path) -> list[Path]:
    """step-*.ckpt of a folder by rising step."""
    return sorted(folder.glob("step-*.ckpt"), key=lambda path: (len(path.name), path.name))


def newest_good(folder: Path) -> tuple[Path | None, list[Path]]:
    """The newest whole checkpoint of a folder, and the newer ones that are cut off.

    torch's files are zip archives whose table of contents comes last: a file that ends early has none.
    """
    broken: list[Path] = []
    for path in reversed(checkpoints_in(folder)):
        if zipfile.is_zipfile(path):
            return path, broken
        broken.append(path)
    return None, broken
