"""Which checkpoint a training goes on from."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import read_json
from helip.errors import HelipError
from helip.models.checkpoints import read_checkpoint
from helip.training.resume_guard import changes, recorded, refusal
from helip.training.run_files import CHECKPOINTS as FOLDER
from helip.training.run_files import checkpoints_in, cut_off, newest_good

AUTO = "auto"


def find_checkpoint(path: Path, warn: Callable[[str], None] = lambda line: None) -> Path:
    """A checkpoint file, or the newest whole one of a run folder.

    Raises:
        HelipError: there is none, or the file is cut off or of another program.
    """
    if path.is_file():
        if not zipfile.is_zipfile(path):
            try:
                read_checkpoint(path)
            except HelipError as error:
                cut = f"{path} is no whole checkpoint: it is cut off; give an older one, or the run folder"
                raise HelipError(cut) from error
        recorded(path)
        return path
    found = _newest(path, warn, cut_off)
    if found is None:
        raise HelipError(f"{path} is neither a checkpoint file nor a run folder with checkpoints/step-*.ckpt")
    return found


def auto_checkpoint(
    folder: Path,
    runs: Path,
    wanted: Any,
    identity: Callable[[Any], Any],
    warn: Callable[[str], None],
    fixed: Mapping[str, Any] | None = None,
    allow_change: bool = False,
) -> Path | None:
    """Where train.resume=auto goes on: this run folder, else the latest run with the same settings, unless it finished.

    Args:
        folder: of this run, whose config.json may be written already.
        runs: where the folders of runs lie.
        wanted: what decides the weights and the metrics of this run.
        identity: the same of another run, from its config.json.
        warn: called with a sentence about each checkpoint that is cut off or of another experiment.
        fixed: what a checkpoint must have recorded (helip.training.resume_guard), so far as it is known.
        allow_change: train.allow_change, a checkpoint may have recorded something else.
    """

    def fault(path: Path) -> str | None:
        return cut_off(path) or _other_experiment(path, fixed or {}, allow_change)

    own = _newest(folder, warn, fault)
    if own is not None:
        return own
    others = {*folder.parent.glob("*/config.json"), *runs.glob("*/*/config.json"), *runs.glob("*/*/*/config.json")}
    for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if path.parent.resolve() == folder.resolve() or identity(read_json(path)) != wanted:
            continue
        found = _newest(path.parent, warn, fault)
        if (path.parent / "results.json").exists() and (found or not checkpoints_in(path.parent / FOLDER)):
            return None
        if found is not None:
            return found
    return None


def _newest(run: Path, warn: Callable[[str], None], fault: Callable[[Path], str | None]) -> Path | None:
    found, bad = newest_good(run / FOLDER, fault)
    for path, wrong in bad:
        warn(f"{path} {wrong} and skipped" + (f": going on from {found.name}" if found else ""))
    return found


def _other_experiment(path: Path, fixed: Mapping[str, Any], allow_change: bool) -> str | None:
    """What speaks against going on from a whole checkpoint: settings that it was trained under."""
    try:
        changed = changes(recorded(path)[0], fixed)
    except HelipError:
        return "is no checkpoint of a training"
    why = refusal(changed, allow_change)
    return f"is of another training ({'; '.join(changed.values())})" if why is not None else None
