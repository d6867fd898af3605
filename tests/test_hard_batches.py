"""The study of hard batches: its tables come from its results, and its intervals are those of a plain computation."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.hard_batches import study
from experiments.hard_batches.arms import TRIALS
from experiments.hard_batches.differences import QUERIES, paired

HERE = Path(study.__file__).parent


def run_of(base: str, seed: int, hits: np.ndarray) -> dict[str, Any]:
    bits = base64.b64encode(np.packbits(hits).tobytes()).decode()
    return {"base": base, "seed": seed, "parts": {"test": {"hits": bits}}}


def test_the_tables_are_those_of_the_results() -> None:
    assert (HERE / "tables.md").read_text(encoding="utf-8") == study.tables()


def test_every_arm_has_as_many_trials() -> None:
    assert {len(trials) for trials in TRIALS.values()} == {4}


def test_an_interval_covers_runs_and_queries() -> None:
    """Against loops: s2(runs) / R + s2(queries) / n, Student's t with 3 degrees of freedom (3.182)."""
    draw = np.random.default_rng(0)
    sides = [[draw.random(2 * QUERIES) < chance for _ in range(4)] for chance in (0.12, 0.10)]
    one, other = ([run_of("ab"[n % 2], n // 2, hits) for n, hits in enumerate(side)] for side in sides)
    found = paired(one, [*reversed(other), run_of("c", 0, sides[1][0])])
    changes = [
        [50.0 * (int(a[q]) + int(a[QUERIES + q]) - int(b[q]) - int(b[QUERIES + q])) for q in range(QUERIES)]
        for a, b in zip(*sides, strict=True)
    ]
    means = [sum(line) / QUERIES for line in changes]
    over_runs = [sum(column) / 4 for column in zip(*changes, strict=True)]
    spread = np.var(means, ddof=1) / 4 + np.var(over_runs, ddof=1) / QUERIES
    assert found.mean == pytest.approx(sum(means) / 4)
    assert found.half == pytest.approx(3.18245 * spread**0.5, rel=1e-4)
    assert found.by_base == pytest.approx({"a": (means[0] + means[2]) / 2, "b": (means[1] + means[3]) / 2})
    assert found.half is not None and found.above == (found.mean > found.half)
