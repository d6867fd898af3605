"""The configuration as one typed tree: what the groups of conf/ say, as the settings of the code that reads them.

Each room's settings stand beside its code; each program's tree stands in its file and mirrors conf/<program>.yaml. What
a field does to a run is its role (helip.typed), from which identities, resume checks and records are derived.
"""

from collections.abc import Callable, Mapping
from typing import Any

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
        HelipError: a setting that is unknown, missing or of another type or range.
    """
    return typed(TREES[name], "", values, make)
