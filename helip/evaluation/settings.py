"""The settings of evaluation."""

from dataclasses import dataclass
from typing import Any

from helip.errors import HelipError
from helip.evaluation.embed import Evaluator
from helip.evaluation.suite import build_evaluators
from helip.typed import Leaf, plain, result


@dataclass(frozen=True)
class EvaluationSettings:
    """The settings in conf/evaluation."""

    evaluators: list[Leaf[Evaluator] | dict[str, Any]] = result(after=True)
    sets: dict[str, Leaf[Evaluator] | dict[str, Any]] = result(after=True)
    batch_size: int = result(after=True, least=1)
    imagenet: str | None = result(after=True)
    max_drop: float = result(after=True)

    def __post_init__(self) -> None:
        """Raises HelipError for a value that is out of range."""
        if not 0 <= self.max_drop <= 1:
            raise HelipError(f"evaluation.max_drop={self.max_drop} must be a share from 0 to 1")

    def build(self) -> tuple[Evaluator, ...]:
        """The evaluators. Raises HelipError as `build_evaluators`."""
        leaves = [one for one in (*self.evaluators, *self.sets.values()) if isinstance(one, Leaf)]
        make = leaves[0].make if leaves else None
        return build_evaluators(plain(self.evaluators), self.imagenet, plain(self.sets), make)
