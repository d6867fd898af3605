"""The lines of a gallery: a target and partners beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helip.artifacts.hard_pairs import HardPairIndex


@dataclass(frozen=True)
class Line:
    """One target with partners beside it.

    Attributes:
        target: row of the target.
        partners: rows of the partners.
        scores: (joint, image, text) of each partner.
        note: text below the target.
        marks: text for each partner; "" for none.
    """

    target: int
    partners: Sequence[int]
    scores: Sequence[tuple[float, float, float]]
    note: str = ""
    marks: Sequence[str] = ()


def line_of(index: HardPairIndex, row: int, places: Sequence[int], note: str = "", marks: Sequence[str] = ()) -> Line:
    """The line of a row with its live partners at some places of its list."""
    live = [k for k in places if index.rows[row, k] >= 0]
    scores = [scores_of(index, row, k) for k in live]
    return Line(int(row), [int(index.rows[row, k]) for k in live], scores, note, marks or ("",) * len(live))


def scores_of(index: HardPairIndex, row: int, place: int) -> tuple[float, float, float]:
    """Joint, image and text score of one pair."""
    joint, image, text = (float(s[row, place]) for s in (index.scores, index.scores_image, index.scores_text))
    return round(joint, 4), round(image, 4), round(text, 4)


def spread_targets(index: HardPairIndex, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Live rows from the hardest to the easiest: one drawn from each of `count` equal slices by the first pair's score.

    Returns:
        (count,) rows, or fewer if fewer rows have a hard pair.
    """
    live = np.flatnonzero(np.asarray(index.rows[:, 0]) >= 0)
    ordered = live[np.argsort(-np.asarray(index.scores[:, 0])[live], kind="stable")]
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(part) for part in np.array_split(ordered, count) if len(part)], np.int64)
