"""Memory-mapped indexes, a slice of rows at a time.

Legend: N rows, K pairs stored per row.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from helip.artifacts.hard_pairs import HardPairIndex

SLICE = 1 << 16  # rows looked at together


def slices(count: int) -> Iterator[slice]:
    """Slices that cover `count` rows in order."""
    return (slice(start, start + SLICE) for start in range(0, count, SLICE))


def known(rows: NDArray, scores: NDArray) -> NDArray[np.bool_]:
    """(n, k) which pairs are live and have a score: those of imported lists are NaN."""
    return (np.asarray(rows) >= 0) & np.isfinite(scores)


def has_scores(index: HardPairIndex) -> bool:
    """Whether any live pair of an index has a score."""
    return any(known(index.rows[part], index.scores[part]).any() for part in slices(len(index)))
