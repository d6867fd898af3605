"""The control of a mined plan: the same lists with permuted rows, so that hard pairs belong to wrong targets.

Every valid row takes the place of another one. The numbers of hard pairs and the in-degrees keep their distribution.
Legend: N rows, k mined rows of each.
"""

from typing import Any

import numpy as np

PLACEBO = 41  # a stream of random numbers


class Placebo:
    """A permutation of the valid rows, and views of lists under it.

    Args:
        valid: (N,) bool; other rows are not permuted.
        seed: of the permutation.
    """

    def __init__(self, valid: np.ndarray, seed: int) -> None:
        rows = np.flatnonzero(valid).astype(np.int32)
        self.stands_for = np.arange(len(valid), dtype=np.int32)  # (N,) row -> row whose list it gets
        self.stands_for[rows] = np.random.default_rng([seed, PLACEBO]).permutation(rows)
        self.plays = np.empty_like(self.stands_for)  # (N,) the inverse: row -> row that gets its list
        self.plays[self.stands_for] = np.arange(len(valid), dtype=np.int32)

    def rows(self, lists: np.ndarray) -> "PermutedLists":
        """The (N, k) lists of rows, -1 padded, with lines and values permuted."""
        return PermutedLists(lists, self.stands_for, self.plays)

    def values(self, values: np.ndarray) -> "PermutedLists":
        """Values of the lists, such as (N, k) scores, with lines permuted."""
        return PermutedLists(values, self.stands_for, None)


class PermutedLists:
    """A view of an array with permuted lines, indexed by a row or a slice."""

    def __init__(self, lists: np.ndarray, stands_for: np.ndarray, plays: np.ndarray | None) -> None:
        self.lists, self.stands_for, self.plays = lists, stands_for, plays

    def __len__(self) -> int:
        return len(self.lists)

    def __getitem__(self, key: Any) -> np.ndarray:
        lines = np.asarray(self.lists[self.stands_for[key]])
        return lines if self.plays is None else np.where(lines >= 0, self.plays[np.maximum(lines, 0)], -1)
