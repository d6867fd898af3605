"""The model of a run or a checkpoint, as it says itself."""

from dataclasses import replace
from pathlib import Path

from helip.artifacts.atomic import read_json
from helip.models.checkpoints import read_checkpoint
from helip.models.clip import ModelSpec
from helip.training.module import CHECKPOINT_KEY
from helip.training.resume import find_checkpoint

EXPORTS = ("final.pt", "best.pt")  # of a run folder


def checkpoint_model(path: Path, default: ModelSpec) -> ModelSpec:
    """The model of a checkpoint: by its own description or that of its run, else `default` with these weights.

    A run folder means its final weights.
    """
    if path.is_dir():
        path = path / "final.pt" if (path / "final.pt").is_file() else find_checkpoint(path)
    description = read_checkpoint(path).get(CHECKPOINT_KEY)
    if path.name in EXPORTS and (path.parent / "config.json").is_file():  # weights alone, for open_clip
        description = read_json(path.parent / "config.json").get("model")
    own = description if isinstance(description, dict) else {}
    name, arguments = own.get("name", default.name), own.get("arguments", default.arguments)
    config = own.get("config") if own else default.config
    return replace(default, name=name, pretrained=str(path), arguments=arguments, config=config)
