"""Approximate cosines decide nothing: pairs that are closer than their error are computed again."""

from typing import Any

import numpy as np
import pytest

from helip.artifacts.hard_pairs import ARRAYS
from helip.mining import rescore as module
from helip.mining.quick import quick_cosines, tolerance
from helip.mining.rescore import Ranked, rescore
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, open_pairs

WIDTH = 24


def close_calls() -> Pairs:
    """400 rows: ten copies of each of 40, some with entries that are off by one float64 rounding."""
    rng = np.random.default_rng(0)
    few = rng.standard_normal((40, WIDTH)) + 1.5
    image, text = (few + step * rng.standard_normal(few.shape) for step in (0, 0.3))
    copies = rng.permutation(np.repeat(np.arange(40), 10))
    moved = image[copies] * (1 + 2.0**-52 * rng.integers(-1, 2, (400, WIDTH)))
    return open_pairs(moved, text[copies])


def same(left: Ranked, right: Ranked) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ARRAYS)


RULES: list[dict[str, Any]] = [
    {"near_duplicate": 1.0},
    {"near_duplicate": 1.0, "score": "image"},
    {"near_duplicate": 1.0, "score": "text", "skip_first": 3},
    {"near_duplicate": "edge"},
    {"near_duplicate": 1.0, "min_similarity": "edge"},
]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_no_error_within_the_tolerance_changes_what_is_stored(monkeypatch, rules) -> None:
    pairs = close_calls()
    targets = np.arange(len(pairs))
    everyone = np.tile(targets, (len(pairs), 1))
    where = np.repeat(targets, len(pairs))
    edge = float(np.median(quick_cosines(pairs, targets, where, everyone.ravel())[0]))  # of ten copies, at least
    chosen: dict[str, Any] = {name: edge if value == "edge" else value for name, value in rules.items()}
    settings = SearchSettings(depth=15, **chosen)
    plain = rescore(pairs, targets, everyone, settings)

    rng = np.random.default_rng(1)
    moved = 0

    def disturbed(*args: object) -> list[np.ndarray]:
        nonlocal moved
        similar = quick_cosines(*args)  # type: ignore[arg-type]
        off = [np.clip(v + 0.4 * tolerance(WIDTH) * rng.choice([-1, 1], v.shape), -1, 1) for v in similar]
        moved += sum(int((a != b).sum()) for a, b in zip(similar, off, strict=True))
        return off

    monkeypatch.setattr(module, "quick_cosines", disturbed)
    for _ in range(5):
        assert same(rescore(pairs, targets, everyone, settings), plain)
    assert moved > 100_000
    # without the second computation, these errors show
    monkeypatch.setattr(
        module, "cosines", lambda vectors, left, right: disturbed_alone(pairs, vectors, left, right, rng)
    )
    assert not same(rescore(pairs, targets, everyone, settings), plain)


def disturbed_alone(pairs: Pairs, vectors: object, left: np.ndarray, right: np.ndarray, rng: np.random.Generator):
    """A second computation that is as wrong as the first."""
    order = np.argsort(left, kind="stable")
    targets, where = np.unique(left[order], return_inverse=True)
    result = np.empty(len(left))
    both = quick_cosines(pairs, targets, where, right[order])
    result[order] = both[0 if vectors is pairs.image else 1]
    return np.clip(result + 0.4 * tolerance(WIDTH) * rng.choice([-1, 1], len(left)), -1, 1)
