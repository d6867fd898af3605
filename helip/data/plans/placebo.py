"""The control of a mined plan: the same lists with the rows' identities permuted, so that only who is near is wrong.

Every valid row gets the place of another one: as many rows have as many hard pairs, and a hub stays a hub.
Legend: N rows, k mined rows of each.
"""

from typing import Any

import numpy as np

PLACEBO = 41  # a stream of random numbers


class Placebo:
    """A permutation of the valid rows, and lists seen through it, without a copy of them.

    Args:
        valid: (N,) bool; other rows keep their place.
        seed: of the permutation.
    """

    def __init__(self, valid: np.ndarray, seed: int) -> None:
        rows = np.flatnonzero(valid).astype(np.int32)
        self.stands_for = np.arange(len(valid), dtype=np.int32)  # (N,) row -> the row whose list it has
        self.stands_for[rows] = np.random.default_rng([seed, PLACEBO]).permutation(rows)
        self.plays = np.empty_like(self.stands_for)  # (N,) its inverse: row -> who has its list
        self.plays[self.stands_for] = np.arange(len(valid), dtype=np.int32)

    def rows(self, lists: np.ndarray) -> "PermutedLists":
        """The (N, k) lists of rows, -1 padded, of and with the permuted identities."""
        return PermutedLists(lists, self.stands_for, self.plays)

    def values(self, values: np.ndarray) -> "PermutedLists":
        """What belongs to the lists, such as (N, k) scores."""
        return PermutedLists(values, self.stands_for, None)


class PermutedLists:
    """Lines of an array by a row or a slice of rows, as an array has them."""

    def __init__(self, lists: np.ndarray, stands_for: np.ndarray, plays: np.ndarray | None) -> None:
        self.lists, self.stands_for, self.plays = lists, stands_for, plays

    def __len__(self) -> int:
        return len(self.lists)

    def __getitem__(self, key: Any) -> np.ndarray:
        lines = np.asarray(self.lists[self.stands_for[key]])
        return lines if self.plays is None else np.where(lines >= 0, self.plays[np.maximum(lines, 0)], -1)
