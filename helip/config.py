"""The configuration as one typed tree: the groups of conf/ as the settings of the code that reads them.

Each room's settings stand beside its code; each program's tree stands in its file and mirrors conf/<program>.yaml. The
role of a field (helip.typed) says what it does to a run; identities, resume checks and records are derived from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from helip.errors import HelipError, of_others
from helip.programs.evaluate import EvaluateSettings
from helip.programs.mine import MineSettings
from helip.programs.settings import SharedSettings
from helip.programs.train import TrainingSettings
from helip.typed import typed

TREES: dict[str, type[SharedSettings]] = {
    "mine": MineSettings,
    "train": TrainingSettings,
    "evaluate": EvaluateSettings,
}


def read(name: str, values: Mapping[str, Any], make: Callable[[Any], Any]) -> Any:
    """The settings of a program.

    Args:
        name: of the program.
        values: the resolved configuration.
        make: makes what a `_target_` node names.

    Raises:
        HelipError: a setting is unknown, missing, or of another type or range.
    """
    groups = {program: {one.name for one in fields(tree)} for program, tree in TREES.items()}
    for group in values:
        others = [program for program in TREES if group in groups[program]]
        if others and name not in others:
            raise HelipError(of_others(group, name, others))
    return typed(TREES[name], "", values, make)
