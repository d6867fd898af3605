# pyright: strict, reportUnknownMemberType=false
"""One partner of each content: of rows whose image and caption are the same bytes only the lowest is a candidate.

Copies of a pair have the same score with every target, so they would fill its list side by side. The lowest row is the
candidate for all its copies, whatever the target; only that row itself may have the next copy as a partner.

Legend: N rows, T targets, K partners.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Copies:
    """Usable rows of the same bytes.

    Attributes:
        first: (N,) int64 the lowest row of the same bytes; a row without copies, or not usable, has itself.
        second: (N,) int64 of a lowest row the next one; -1 elsewhere.
        size: (N,) int64 of a lowest row how many they are; 1 elsewhere.
        partner: (N,) bool usable rows that are candidates of every target.
    """

    first: np.ndarray
    second: np.ndarray
    size: np.ndarray
    partner: np.ndarray

    def stands(self, targets: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(T, K) bool: which `others` (T, K), from 0, are candidates of the targets (T,)."""
        return self.partner[others] | (others == self.second[targets][:, None])

    def left_out(self, targets: np.ndarray, partners: np.ndarray) -> int:
        """How many copies of their partners (T, K), -1 for none, the targets (T,) have not got."""
        first = self.first[np.maximum(partners, 0)]
        copies = self.size[first] - 1 - (first == self.first[targets][:, None])
        return int(copies[partners >= 0].sum())


def pair_ids(image_group: np.ndarray, text_group: np.ndarray) -> np.ndarray:
    """(N,) int64 numbers that are equal where both groups are; -1 where one is negative."""
    order = np.lexsort((text_group, image_group))
    image, text = image_group[order], text_group[order]
    ids = np.zeros(len(order), np.int64)
    ids[order[1:]] = np.cumsum((image[1:] != image[:-1]) | (text[1:] != text[:-1]))
    ids[(image_group < 0) | (text_group < 0)] = -1
    return ids


def copies_of(pair_group: np.ndarray, valid: np.ndarray) -> Copies | None:
    """None where no two usable rows are the same.

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
