"""Counts over all pairs of a memory-mapped index, in slices of rows.

Legend: N rows, K pairs stored per row.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from helip.artifacts.hard_pairs import HardPairIndex

SLICE = 1 << 16  # rows that are read together


def slices(count: int) -> Iterator[slice]:
    """Slices that cover `count` rows in order."""
    return (slice(start, start + SLICE) for start in range(0, count, SLICE))


def known(rows: NDArray, scores: NDArray) -> NDArray[np.bool_]:
    """(n, k) which pairs are live and have a score; the scores of imported lists are NaN."""
    return (np.asarray(rows) >= 0) & np.isfinite(scores)


def has_scores(index: HardPairIndex) -> bool:
    """Whether any live pair of an index has a score."""
    return any(known(index.rows[part], index.scores[part]).any() for part in slices(len(index)))


def histograms(rows: NDArray, scores: NDArray, bins: int) -> tuple[NDArray, NDArray, NDArray]:
    """Bin edges over the known scores, and the shares of all pairs and of the first pairs in each bin."""
    parts = list(slices(len(rows)))
    live = [known(rows[part], scores[part]) for part in parts]
    low = min((np.asarray(scores[p])[k].min() for p, k in zip(parts, live, strict=True) if k.any()), default=0.0)
    high = max((np.asarray(scores[p])[k].max() for p, k in zip(parts, live, strict=True) if k.any()), default=1.0)
    edges = np.linspace(min(0.0, float(low)), max(float(high), float(low) + 1e-6), bins + 1)
    every, first = np.zeros(bins), np.zeros(bins)
    for part, kept in zip(parts, live, strict=True):
        values = np.asarray(scores[part])
        every += np.histogram(values[kept], edges)[0]
        first += np.histogram(values[:, 0][kept[:, 0]], edges)[0]
    return edges, every / max(1, every.sum()), first / max(1, first.sum())


def in_degree(rows: NDArray) -> NDArray[np.int64]:
    """(N,) how often each row is a hard pair of another row; `rows` (N, K), -1 padded."""
    counts = np.zeros(len(rows), np.int64)
    for part in slices(len(rows)):
        chosen = np.asarray(rows[part])
        counts += np.bincount(chosen[chosen >= 0], minlength=len(rows))
    return counts


def chosen_degrees(index: HardPairIndex) -> NDArray[np.int64]:
    """In-degree of the rows that have or are a hard pair; of all rows if there are no pairs."""
    degree = in_degree(index.rows)
    live = (np.asarray(index.rows[:, 0]) >= 0) | (degree > 0)
    return degree[live] if live.any() else degree
