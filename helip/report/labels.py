"""Whether hard pairs share a label more often than random pairs: a check of mining with labels that it does not use."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class LabelRates(NamedTuple):
    """Shares in 0..1 of pairs whose rows have the same label; NaN if there is no labelled pair."""

    hard: float
    random: float

    @property
    def ratio(self) -> float:
        """The share of hard pairs divided by that of random pairs."""
        return self.hard / self.random if self.random else float("nan")


def label_rates(rows: NDArray, labels: Sequence[str] | ArrayLike, valid: NDArray[np.bool_] | None = None) -> LabelRates:
    """Compare hard pairs with the exact expectation for partners drawn uniformly from the other valid rows.

    In `random` the weight of a target is its number of hard pairs, so that both shares are about the same targets. Rows
    with an empty label count neither as targets nor as partners.

    Args:
        rows: (N, K) hard pairs of each row, -1 padded.
        labels: (N,) label of each row, such as the emoji subgroup.
        valid: (N,) rows that can be drawn; None: all.
    """
    names, label = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    usable = (names != "")[label] & (True if valid is None else np.asarray(valid))
    hard = np.asarray(rows)
    pair = (hard >= 0) & usable[:, None] & usable[hard]  # (N, K); hard = -1 reads the last row and is masked
    weight = pair.sum(1)
    if not weight.sum():
        return LabelRates(float("nan"), float("nan"))
    size = np.bincount(label[usable], minlength=len(names))
    chance = (size[label] - 1) / max(1, usable.sum() - 1)  # (N,) share of the other usable rows with the same label
    shared = (pair & (label[hard] == label[:, None])).sum()
    return LabelRates(float(shared / weight.sum()), float((weight * chance).sum() / weight.sum()))
