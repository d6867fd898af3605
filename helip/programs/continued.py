"""Whether a training has finished before, and from which checkpoint it resumes."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import digest, path_digest
from helip.errors import HelipError
from helip.programs.multirun import BEFORE, RESULTS, finished_run, note_job
from helip.programs.requests import brought
from helip.programs.session import Session
from helip.programs.settings import SharedSettings
from helip.secrets import without_secrets
from helip.training.resume import AUTO, auto_checkpoint, find_checkpoint
from helip.training.resume_guard import changes, recorded, refusal
from helip.training.settings import TrainSettings
from helip.typed import kept, plain

NAMED = ("dataset", "model", "encoders")  # results.json has their names under these keys


def decisive(cls: type, settings: Any) -> Any:
    """The settings that decide weights and metrics, of a program's plain settings, such as those in config.json."""
    return without_secrets(kept(cls, settings)) if isinstance(settings, Mapping) else None


def record_of(settings: SharedSettings, fingerprint: str) -> dict[str, Any]:
    """The settings of a training as results.json holds them; tables group by their dotted names.

    Returns:
        `settings`: a digest of everything that decides the weights and the metrics; files of embeddings or hard pairs
        that the user brought count by their content. Then the starting checkpoint as `base` (its name, and the digest
        of its content or its tag), and the groups of settings themselves.
    """
    decides = decisive(type(settings), plain(settings))
    base = settings.model.identity()["pretrained"]
    content = [path_digest(path) for path in brought(settings) if path.exists()]
    return {
        "settings": digest([decides, base, fingerprint, *content], 16),
        "base": {"pretrained": settings.model.pretrained, "digest": base},
        "encoders": settings.encoders.name,
        "fingerprint": fingerprint[:16],
        **{group: values for group, values in decides.items() if group not in NAMED},
    }


def finished(session: Session, record: Mapping[str, Any], skip: bool | str) -> bool:
    """Whether a run with this `record_of` has finished and is not repeated; prints its folder.

    Args:
        skip: train.skip_finished.
    """
    done = None
    if session.rank == 0 and skip is True:
        done = finished_run(record["settings"], session.folder, Path(session.settings.paths.runs))
    done = session.agreed(done)
    if done is not None:
        session.console.print(f"skipped: finished before in {done} (train.skip_finished=false repeats it)")
    if session.rank == 0 and done is not None:
        note_job(session.folder, status=BEFORE, run=str(done))
    elif session.rank == 0:
        (session.folder / RESULTS).unlink(missing_ok=True)  # of other settings in the same folder
    return done is not None


def resumed(session: Session, settings: TrainSettings, fixed: Mapping[str, Any]) -> TrainSettings:
    """The settings with the checkpoint file that train.resume means.

    Args:
        fixed: settings that the checkpoint must have recorded, as far as they are known before the mining.

    Raises:
        HelipError: a mistyped path, or a checkpoint of other settings; before the mining, which may take hours.
    """
    warn = partial(session.console.print, "warning:")
    if settings.resume not in (None, AUTO):
        path = find_checkpoint(Path(settings.resume), warn)
        if (why := refusal(changes(recorded(path)[0], fixed), settings.allow_change)) is not None:
            raise HelipError(f"train.resume: {why}")
        return replace(settings, resume=str(path))
    wanted = settings.resume == AUTO or settings.skip_finished is True
    found = None
    if session.rank == 0 and wanted:
        identity = partial(decisive, type(session.settings))
        own, runs = identity(plain(session.settings)), Path(session.settings.paths.runs)
        found = auto_checkpoint(session.folder, runs, own, identity, warn, fixed, settings.allow_change)
    found = session.agreed(found)
    if wanted:
        session.console.print(f"resume: {found or 'no unfinished run has these settings, from the start'}")
    return replace(settings, resume=str(found) if found else None)
