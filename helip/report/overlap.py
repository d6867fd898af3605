"""The overlap of two arms: the share of one arm's hard pairs that the other arm has too.

Legend: N rows, K pairs kept per row.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report.counts import slices


def overlaps(arms: Mapping[str, HardPairIndex], k: int) -> dict[tuple[str, str], float]:
    """(a, b) -> share (0..1) of the first k pairs of all rows of a that are among the first k of the same row of b.

    NaN where a has no pairs.

    Raises:
        HelipError: the indexes are of different data, or one stores fewer than k pairs per row.
    """
    (first, reference), *others = arms.items()
    for name, index in others:
        same = index.meta.get("fingerprint") == reference.meta.get("fingerprint")
        if len(index) != len(reference) or not same:
            raise HelipError(f"{name} was mined on other shards than {first}: rows cannot be compared")
    rows = {name: index.topk(k).rows for name, index in arms.items()}
    return {(a, b): 1.0 if a == b else _share(rows[a], rows[b]) for a, b in product(rows, rows)}


def _share(own: NDArray, other: NDArray) -> float:
    shared = total = 0
    for part in slices(len(own)):
        a, b = (np.asarray(rows[part]) for rows in (own, other))
        mine, theirs = _numbered(a), _numbered(b)
        shared += np.isin(mine, theirs, assume_unique=True).sum()
        total += len(mine)
    return float(shared / total) if total else float("nan")


def _numbered(rows: NDArray) -> NDArray[np.int64]:
    """A number for each live pair of a row in the slice and its partner."""
    target = np.arange(len(rows), dtype=np.int64)[:, None] << 32
    return (target + rows)[rows >= 0]


def chance(k: int, usable: int) -> float:
    """Expected overlap of two arms of k pairs that are drawn at random from the other rows."""
    return min(1.0, k / max(1, usable - 1))
