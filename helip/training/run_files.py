"""The checkpoints and the log in a run folder: found again, gone on with, or moved out of the way."""

import csv
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import CSVLogger

from helip.training.resume_guard import recorded

CHECKPOINTS, LOG = "checkpoints", "metrics.csv"
EARLIER_LOG = f"{LOG}.earlier"
RESULTS = ("final.pt", "best.pt", "metrics.md", LOG, EARLIER_LOG)  # of a training, beside its checkpoints


def checkpoints_in(folder: Path) -> list[Path]:
    """step-000500.ckpt and the like of a folder by rising step; a copy that somebody named otherwise is not ours."""
    return sorted((path for path in folder.glob("step-*.ckpt") if _digits(path).isdigit()), key=step_of)


def step_of(path: Path) -> int:
    """The step of a checkpoint by its name."""
    return int(_digits(path))


def _digits(path: Path) -> str:
    return path.stem.removeprefix("step-")


def cut_off(path: Path) -> str | None:
    """What is wrong with a file that ends early: torch's are zip archives, whose table of contents comes last."""
    return None if zipfile.is_zipfile(path) else "is cut off"


def newest_good(
    folder: Path, fault: Callable[[Path], str | None] = cut_off
) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest checkpoint of a folder without a fault, and the newer ones with theirs.

    Args:
        folder: of the checkpoints.
        fault: what is wrong with one, None if nothing is.
    """
    bad: list[tuple[Path, str]] = []
    for path in reversed(checkpoints_in(folder)):
        wrong = fault(path)
        if wrong is None:
            return path, bad
        bad.append((path, wrong))
    return None, bad


def run_of(checkpoint: Path) -> Path:
    """The folder with the log that a checkpoint belongs to: checkpoints/ lie in it, what was set aside beside it."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else checkpoint.parent


def set_aside(run: Path, resume: Path | None) -> Path | None:
    """Move what an earlier training left in a run folder to earlier-1/, earlier-2/, ... in it.

    A training that goes on from a checkpoint of this folder keeps all but the checkpoints of later steps; any other one
    keeps nothing, for files are pruned, found and exported by their names.

    Args:
        run: the run folder.
        resume: the checkpoint that the new training goes on from, if any.

    Returns:
        The folder that the files went to, None if there was nothing to move.
    """
    checkpoints = run / CHECKPOINTS
    stale = checkpoints_in(checkpoints)
    if resume is not None and resume.parent.resolve() == checkpoints.resolve():
        step = recorded(resume)[1]
        stale = [path for path in stale if step_of(path) > step]
    else:
        stale = [*stale, *checkpoints.glob("best.*"), *(run / name for name in RESULTS if (run / name).is_file())]
    if not stale:
        return None
    number = 1
    while (run / f"earlier-{number}").exists():
        number += 1
    aside = run / f"earlier-{number}"
    aside.mkdir(parents=True)
    for path in stale:
        os.replace(path, aside / path.name)
    return aside


class MetricsLog(CSVLogger):
    """metrics.csv in the run folder, on disk after every line: kill -9 takes none of them.

    Lightning removes the file of an earlier process; `go_on` keeps its lines, also those of another run folder.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(run, name="", version="", flush_logs_every_n_steps=1)
        self._path, self._earlier = run / LOG, run / EARLIER_LOG
        self._ahead: tuple[int | None, set[str]] = None, set()

    def ahead(self, metrics: Mapping[str, torch.Tensor], step: int, epoch: int) -> None:
        """A step's line before Lightning logs it, whose own call then adds nothing."""
        self.log_metrics({name: float(value) for name, value in metrics.items()} | {"epoch": epoch}, step)
        self.save()
        self._ahead = step, {*metrics, "epoch"}

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if (step, set(metrics)) != self._ahead:
            super().log_metrics(dict(metrics), step)

    def go_on(self, step: int, run: Path) -> None:
        """Begin with the lines of the earlier part of a run that is resumed after `step` optimizer steps.

        Lines of a training step bear its number from 0, those of an evaluation the number of steps before it.

        Args:
            step: of the checkpoint.
            run: folder of the earlier part; this one, or another whose file stays as it is.
        """
        if self._path.exists() and not self._earlier.exists():  # else a process was killed before it had copied them
            self._path.rename(self._earlier)
        source = next((path for path in (run / EARLIER_LOG, run / LOG) if path.is_file()), None)
        if source is None:
            return
        with open(source, newline="", encoding="utf-8") as file:
            lines = [{name: value for name, value in line.items() if name and value} for line in csv.DictReader(file)]
        writer = self.experiment
        for line in lines:
            number = int(line.pop("step", step + 1))
            if number < step or (number == step and not any(name.startswith("train/") for name in line)):
                writer.metrics.append({**line, "step": number})
        writer.save()
        self._earlier.unlink(missing_ok=True)
