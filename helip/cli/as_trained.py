"""evaluate.py checkpoint=RUN: the data, model and evaluators of the training, unless the command line names others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import read_json

Config = dict[str, Any]
GROUPS = ("dataset", "model", "evaluation")


def as_trained(config: Config, overrides: Sequence[str]) -> Config:
    """The resolved configuration with the groups of the first run among the checkpoints.

    Groups and settings that the command line names keep its values.

    Args:
        config: resolved; `checkpoint` is a path, a list of them, or None.
        overrides: of the command line, such as `dataset=cc3m`.
    """
    asked = config["checkpoint"]
    paths = [asked] if isinstance(asked, str) else asked or []
    recorded = next((found for path in paths if (found := _recorded(Path(path))) is not None), None)
    if recorded is None:
        return config
    named = [override.lstrip("+~").partition("=")[0] for override in overrides]
    result = dict(config)
    for group in GROUPS:
        if group in named or f"{group}.path" in named or not isinstance(recorded.get(group), dict):
            continue
        result[group] = {name: value for name, value in recorded[group].items() if name in config[group]}
        for name in (name.split(".")[1] for name in named if name.startswith(f"{group}.")):
            if name in config[group]:
                result[group][name] = config[group][name]
    if "evaluation.evaluators" not in named and any(result[group] is not config[group] for group in GROUPS):
        result["evaluation"] = {**result["evaluation"], "evaluators": result["dataset"]["evaluators"]}
    return result


def _recorded(path: Path) -> Config | None:
    """config.json of the training that a folder, its exports or its checkpoints belong to."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").is_file():
            found = read_json(folder / "config.json")
            return found if "train" in found else None
    return None
