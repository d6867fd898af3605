"""The checkpoint from which a training resumes, and the model of a checkpoint."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import read_json
from helip.errors import HelipError
from helip.models.checkpoints import read_checkpoint
from helip.models.clip import ModelSpec
from helip.training.module import CHECKPOINT_KEY
from helip.training.resume_guard import changes, recorded, refusal
from helip.training.run_files import CHECKPOINTS as FOLDER
from helip.training.run_files import EXPORTS, checkpoints_in, cut_off, newest_good, of_runs

AUTO = "auto"


def find_checkpoint(path: Path, warn: Callable[[str], None] = lambda line: None) -> Path:
    """A checkpoint file, or the newest complete one of a run folder.

    Raises:
        HelipError: there is none, or the file is truncated or not from a training with HELIP.
    """
    if path.is_file():
        if not zipfile.is_zipfile(path):
            try:
                read_checkpoint(path)
            except HelipError as error:
                raise HelipError(f"{path} is truncated: give an older checkpoint, or the run folder") from error
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
    """The checkpoint for train.resume=auto: of this run folder, or else of the latest unfinished run of equal settings.

    Args:
        folder: of this run; its config.json may exist already.
        runs: parent of the run folders.
        wanted: the settings that determine weights and metrics of this run.
        identity: the same settings of another run, from its config.json.
        warn: takes a sentence about each checkpoint that is truncated or has other settings.
        fixed: the known settings that a checkpoint must have recorded (helip.training.resume_guard).
        allow_change: train.allow_change, accept checkpoints with other records.
    """

    def fault(path: Path) -> str | None:
        return cut_off(path) or _other_experiment(path, fixed or {}, allow_change)

    own = _newest(folder, warn, fault)
    if own is not None:
        return own
    for path in of_runs("config.json", folder, runs):
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
        warn(f"{path} {wrong} and skipped" + (f": resuming from {found.name}" if found else ""))
    return found


def _other_experiment(path: Path, fixed: Mapping[str, Any], allow_change: bool) -> str | None:
    """Why a complete checkpoint cannot be resumed: the settings that differ; None if it can."""
    try:
        changed = changes(recorded(path)[0], fixed)
    except HelipError:
        return "is no checkpoint of a training"
    why = refusal(changed, allow_change)
    return f"is of another training ({'; '.join(changed.values())})" if why is not None else None


def checkpoint_model(path: Path, default: ModelSpec) -> ModelSpec:
    """The model of a checkpoint: from its description or that of its run, or else `default` with these weights.

    For a run folder, the final weights.
    """
    if path.is_dir():
        path = path / "final.pt" if (path / "final.pt").is_file() else find_checkpoint(path)
    description = read_checkpoint(path).get(CHECKPOINT_KEY)
    if path.name in EXPORTS and (path.parent / "config.json").is_file():  # exports for open_clip have no description
        description = read_json(path.parent / "config.json").get("model")
    own = description if isinstance(description, dict) else {}
    name, arguments = own.get("name", default.name), own.get("arguments", default.arguments)
    config = own.get("config") if own else default.config
    return replace(default, name=name, pretrained=str(path), arguments=arguments, config=config)
