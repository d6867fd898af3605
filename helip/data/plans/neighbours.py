"""Mutual neighbours: pairs of rows that list each other.

Decision: sort the two directions of a pair next to each other, in passes over ranges of rows. Looking up the other
row's list would read 400 bytes at random for each of 300 M entries. benchmarks/plans.py measures time and memory by N.
Legend: N rows, m listed rows of each, E mutual pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

ENTRIES = 1 << 25  # listed rows that one pass sorts, 8 bytes each: 256 MB
LINES = 1 << 16  # lists of a memory-mapped index read at a time


@dataclass(frozen=True)
class Neighbours:
    """The undirected graph of mutual pairs, by row.

    Attributes:
        ends: (N + 1,) int64; the neighbours of row i are rows[ends[i] : ends[i + 1]].
        rows: (2 E,) int32, ascending within a row.
    """

    ends: np.ndarray
    rows: np.ndarray

    def inside(self, label: np.ndarray) -> float:
        """Mean number of a row's neighbours with its own label; (N,) labels, negative ones do not count."""
        count, known = len(self.ends) - 1, label >= 0
        total = 0
        for first in range(0, count, LINES):
            last = min(count, first + LINES)
            own = np.repeat(label[first:last], np.diff(self.ends[first : last + 1]))
            total += int(((label[self.rows[self.ends[first] : self.ends[last]]] == own) & (own >= 0)).sum())
        return total / max(1, int(known.sum()))


def mutual_neighbours(lists: Any, valid: np.ndarray, entries: int = ENTRIES) -> Neighbours:
    """The rows j of each row i that list i and are listed by it.

    Args:
        lists: (N, m) int32, -1 padded; an array, or an object that returns a block of lines for a slice.
        valid: (N,) bool; other rows have no neighbours.
        entries: number of list entries sorted at a time; does not change the result.
    """
    count = len(valid)
    degree, found = np.zeros(count + 1, np.int64), []
    for first, last in _passes(lists, valid, entries):
        keys = [_keys(rows, others, first, last, count) for rows, others in _pairs(lists, valid)]
        both = np.concatenate(keys)
        del keys
        both.sort()
        # the two directions of a pair differ only in the lowest bit; repeated entries of a list are equal
        mutual = both[1:][(both[1:] ^ both[:-1] == 1) & (both[1:] & 1 == 1)] >> 1
        del both
        degree[first + 1 : last + 1] = np.bincount(mutual // count, minlength=last - first)
        found.append((mutual % count).astype(np.int32))
    return Neighbours(np.cumsum(degree), np.concatenate(found) if found else np.empty(0, np.int32))


def _pairs(lists: Any, valid: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(n,) rows and the (n,) rows that they list, all valid, block by block."""
    for start in range(0, len(valid), LINES):
        block = np.asarray(lists[start : start + LINES])
        own = np.arange(start, start + len(block), dtype=np.int32)[:, None]
        live = (block >= 0) & valid[np.maximum(block, 0)] & valid[start : start + len(block), None] & (block != own)
        lines, _ = np.nonzero(live)
        yield (lines + start).astype(np.int32), block[live]


def _passes(lists: Any, valid: np.ndarray, entries: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows with at most `entries` entries from or to them (a single row may have more)."""
    touched = np.zeros(len(valid), np.int64)
    for rows, others in _pairs(lists, valid):
        touched += np.bincount(rows, minlength=len(valid))
        touched += np.bincount(others, minlength=len(valid))
    total, first = np.cumsum(touched), 0
    while first < len(valid):
        done = int(total[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(total, done + entries, side="right")))
        yield first, last
        first = last


def _keys(rows: np.ndarray, others: np.ndarray, first: int, last: int, count: int) -> np.ndarray:
    """int64 keys of the entries from or to the rows first .. last, made of that row, the other row, the direction."""
    own, back = (rows >= first) & (rows < last), (others >= first) & (others < last)
    listed = ((rows[own].astype(np.int64) - first) * count + others[own]) * 2
    return np.concatenate([listed, ((others[back].astype(np.int64) - first) * count + rows[back]) * 2 + 1])
