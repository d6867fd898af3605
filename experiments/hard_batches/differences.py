"""Differences of two arms, with an interval over runs and test queries.

Runs and queries are crossed: every run answers the same queries. The variance of the mean difference is
s2(runs) / R + s2(queries) / n: the first over the R differences of means, the second over the n differences of queries,
averaged over runs. The second term includes part of the first, so the interval is slightly wide. It uses Student's t
with R - 1 degrees of freedom.

Legend: R runs of an arm, n icons of a part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, variance
from typing import Any

import numpy as np

from experiments.hard_batches.measure import answered
from experiments.intervals import students_t

Result = Mapping[str, Any]
QUERIES = 4000


@dataclass(frozen=True)
class Difference:
    """In percentage points of recall@1.

    Attributes:
        half: half the width of the interval; None for a single run.
        runs: the differences of the R pairs.
        by_base: base -> mean difference of its runs.
    """

    mean: float
    half: float | None
    runs: tuple[float, ...]
    by_base: dict[str, float]

    @property
    def above(self) -> bool:
        """Whether the interval lies above 0."""
        return self.half is not None and self.mean - self.half > 0

    def text(self) -> str:
        return f"{self.mean:+.2f}" + ("" if self.half is None else f" ± {self.half:.2f}")


def paired(one: Sequence[Result], other: Sequence[Result], part: str = "test") -> Difference:
    """The difference of runs with the same base and seed; checkpoints in `other` have no seed and pair by base.

    Runs without a counterpart, as an unfinished study has, are left out.

    Raises:
        ValueError: no run of `one` has a counterpart.
    """
    counterpart = {(run["base"], run.get("seed")): run for run in other}
    one = with_counterpart(one, other)
    changes = np.stack(
        [_hits(run, part) - _hits(_of(counterpart, run), part) for run in one]
    )  # (R, n), in percentage points
    count = len(changes)
    by_run = changes.mean(1)
    of_queries = variance(changes.mean(0).tolist()) / changes.shape[1]
    quantile = students_t(max(count, 2))
    half = None if count < 2 else quantile * (variance(by_run.tolist()) / count + of_queries) ** 0.5
    return Difference(float(by_run.mean()), half, tuple(by_run.tolist()), _by_base(by_run.tolist(), one))


def of_values(changes: Sequence[float]) -> Difference:
    """The mean of R paired differences, with an interval over runs alone: for metrics without stored queries."""
    count = len(changes)
    half = None if count < 2 else students_t(count) * (variance(changes) / count) ** 0.5
    return Difference(mean(changes), half, tuple(changes), {})


def with_counterpart(one: Sequence[Result], other: Sequence[Result]) -> list[Result]:
    """The runs of one arm with a counterpart in the other, by base and seed or by base alone."""
    known = {(run["base"], run.get("seed")) for run in other}
    return [run for run in one if (run["base"], run["seed"]) in known or (run["base"], None) in known]


def _of(counterpart: Mapping[tuple[str, Any], Result], run: Result) -> Result:
    key = (run["base"], run["seed"])
    return counterpart[key] if key in counterpart else counterpart[(run["base"], None)]


def _hits(run: Result, part: str) -> np.ndarray:
    return 100 * answered(run["parts"][part], QUERIES)


def _by_base(changes: Sequence[float], runs: Sequence[Result]) -> dict[str, float]:
    bases = sorted({run["base"] for run in runs})
    return {
        base: mean(value for value, run in zip(changes, runs, strict=True) if run["base"] == base) for base in bases
    }
