"""Settings that a resumed run must share with its checkpoint, and which of them train.allow_change can change."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helip.errors import HelipError
from helip.models.checkpoints import described, read_checkpoint
from helip.models.clip import ModelSpec
from helip.training.optim import OptimSettings
from helip.training.settings import TrainSettings
from helip.typed import TARGET, marked

FIXED_KEY = "helip_fixed"
OURS = {"helip", "state_dict", "global_step", "loops"}  # keys of a checkpoint that can be resumed
# Settings that train.allow_change cannot change, because the tensors of the checkpoint would not fit.
FIRM = {
    f"{group}.{name}": why
    for group, settings in (("optim", OptimSettings), ("train", TrainSettings), ("model", ModelSpec))
    for name, why in marked(settings, "firm").items()
}

# Names in older checkpoints -> the class that they mean.
WORDS = {
    ("train.loss", "clip"): "helip.training.losses.HelipLoss",
    ("train.loss", "siglip"): "helip.training.losses.HelipSigLipLoss",
    ("helip.schedule", "uniform"): "helip.data.schedules.Uniform",
    ("helip.schedule", "score"): "helip.data.schedules.Score",
    ("helip.schedule", "anneal"): "helip.data.schedules.Anneal",
}


def fixed_record(optim: OptimSettings, max_steps: int, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a checkpoint: settings by their names in the configuration."""
    own = {f"optim.{name}": value for name, value in asdict(optim).items()}
    return json.loads(json.dumps({"train.max_steps": max_steps} | own | dict(fixed)))


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Name -> "NAME was X and is Y" of the settings that differ; settings without a record do not."""
    if "optim.beta1" in before:  # an older checkpoint
        before = {**before, "optim.betas": [before["optim.beta1"], before["optim.beta2"]]}
    return {
        name: f"{name} was {before[name]} and is {value}"
        for name, value in now.items()
        if not _same(name, before.get(name, value), value)
    }


def _same(name: str, before: Any, now: Any) -> bool:
    if isinstance(before, str) and isinstance(now, dict):  # older checkpoints recorded its arguments separately
        return WORDS.get((name, before)) == now.get(TARGET)
    if isinstance(before, dict) and isinstance(now, list):  # an ordered mapping of an older checkpoint
        before = [list(item) for item in before.items()]
    return before == now


def refusal(changed: Mapping[str, str], allow_change: bool) -> str | None:
    """Why a run cannot be resumed with changed settings; None if it can."""
    firm = [f"{line}; {name} cannot change, because {FIRM[name]}" for name, line in changed.items() if name in FIRM]
    if firm:
        return "; ".join(firm)
    if changed and not allow_change:
        return (
            f"{'; '.join(changed.values())}: the rest of the run would follow another schedule than its start;"
            " restore the settings, or allow the change with train.allow_change=true"
        )
    return None


def recorded(path: Path) -> tuple[dict[str, Any], int]:
    """Recorded settings and step of a checkpoint file, without reading its tensors.

    Raises:
        HelipError: as `read_checkpoint`, or the file is no checkpoint of a training with HELIP.
    """
    checkpoint = read_checkpoint(path, mmap=True)
    if OURS - checkpoint.keys():
        raise HelipError(
            f"{path} is {described(checkpoint)}, and no checkpoint of a training with HELIP: model.pretrained={path} "
            "begins with its weights; train.resume takes a run folder or its checkpoints/step-*.ckpt"
        )
    return checkpoint.get(FIXED_KEY, {}), checkpoint["global_step"]
