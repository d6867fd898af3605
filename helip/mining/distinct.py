# pyright: strict, reportUnknownMemberType=false
"""Copies of a pair: of rows with the same image and caption bytes only the lowest is a candidate.

Copies of a pair have the same score with every target, so they would fill its list. The lowest row is the candidate for
every target except itself, which gets the next copy instead.

Legend: N rows, T targets, K partners.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Copies:
    """Which usable rows have the same bytes.

    Attributes:
        first: (N,) int64 lowest row with the same bytes; the row itself if it has no copies or is not usable.
        second: (N,) int64 for a lowest row the next copy; -1 elsewhere.
        size: (N,) int64 for a lowest row the number of rows with its bytes; 1 elsewhere.
        partner: (N,) bool usable rows that are candidates of every target.
    """

    first: np.ndarray
    second: np.ndarray
    size: np.ndarray
    partner: np.ndarray

    def stands(self, targets: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(T, K) bool: which of `others` (T, K), none negative, are candidates of the targets (T,)."""
        return self.partner[others] | (others == self.second[targets][:, None])

    def left_out(self, targets: np.ndarray, partners: np.ndarray) -> int:
        """Number of copies of the `partners` (T, K), -1 for none, that the targets (T,) were not given."""
        first = self.first[np.maximum(partners, 0)]
        copies = self.size[first] - 1 - (first == self.first[targets][:, None])
        return int(copies[partners >= 0].sum())


def pair_ids(image_group: np.ndarray, text_group: np.ndarray) -> np.ndarray:
    """(N,) int64 numbers that are equal where both groups are equal; -1 where a group is negative."""
    order = np.lexsort((text_group, image_group))
    image, text = image_group[order], text_group[order]
    ids = np.zeros(len(order), np.int64)
    ids[order[1:]] = np.cumsum((image[1:] != image[:-1]) | (text[1:] != text[:-1]))
    ids[(image_group < 0) | (text_group < 0)] = -1
    return ids


def copies_of(pair_group: np.ndarray, valid: np.ndarray) -> Copies | None:
    """The copies among rows; None if there are none.

    Args:
        pair_group: (N,) int64, equal for rows of the same bytes; negative: no copies.
        valid: (N,) bool, usable rows.
    """
    rows = np.flatnonzero(valid & (pair_group >= 0))
    rows = rows[np.argsort(pair_group[rows], kind="stable")]  # rising within a group
    ids = pair_group[rows]
    new = np.append(True, ids[1:] != ids[:-1])[: len(ids)]
    if new.all():
        return None
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(rows)))
    first, second = np.arange(len(valid)), np.full(len(valid), -1)
    first[rows] = np.repeat(rows[starts], sizes)
    several = starts[sizes > 1]
    second[rows[several]] = rows[several + 1]
    size = np.ones(len(valid), np.int64)
    size[rows[starts]] = sizes
    return Copies(first, second, size, valid & (first == np.arange(len(valid))))
