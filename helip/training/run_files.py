"""The checkpoints of a run folder: find the newest good one, or move what an earlier training left out of the way."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from helip.training.resume_guard import recorded

CHECKPOINTS, LOG = "checkpoints", "metrics.csv"
EXPORTS = ("final.pt", "best.pt")  # of a run folder
RESULTS = (*EXPORTS, "metrics.md", LOG)  # of a training, beside its checkpoints


def checkpoints_in(folder: Path) -> list[Path]:
    """step-000500.ckpt and so on in a folder, by step; ignores files with other names."""
    found = (path for path in folder.glob("step-*.ckpt") if path.stem.removeprefix("step-").isdigit())
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(path.stem.removeprefix("step-"))


def cut_off(path: Path) -> str | None:
    """A phrase if a file is truncated: torch's files are zip archives, whose table of contents comes last."""
    return None if zipfile.is_zipfile(path) else "is cut off"


def newest_good(
    folder: Path, fault: Callable[[Path], str | None] = cut_off
) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest checkpoint of a folder in which `fault` finds nothing wrong, and the newer ones with their faults."""
    bad: list[tuple[Path, str]] = []
    for path in reversed(checkpoints_in(folder)):
        wrong = fault(path)
        if wrong is None:
            return path, bad
        bad.append((path, wrong))
    return None, bad


def run_of(checkpoint: Path) -> Path:
    """The folder with the log of a checkpoint."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else checkpoint.parent


def of_runs(name: str, folder: Path, runs: Path) -> list[Path]:
    """The files of this name in run folders, latest first: beside a run folder, and in those of `runs`."""
    found = {*folder.parent.glob(f"*/{name}"), *runs.glob(f"*/*/{name}"), *runs.glob(f"*/*/*/{name}")}
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def set_aside(run: Path, resume: Path | None) -> Path | None:
    """Move the files of an earlier training in a run folder to earlier-1/, earlier-2/, ... inside it.

    A training that resumes from a checkpoint of this folder (`resume`) moves only the checkpoints of later steps. Any
    other training moves all files, because files are pruned, found and exported by their names.

    Returns:
        The new folder of the files, None if there was nothing to move.
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
