# pyright: strict, reportUnknownMemberType=false
"""Float64 cosines by a faster sum, and which of them `stable_dot` must compute again.

`stable_dot.dots` decides what is stored, and takes seven passes over its data. A float64 sum in the order that torch
chooses takes one pass and differs from it by less than 2 (d + 8) 2^-53. The stored numbers are the same unless a
threshold, a float32 rounding or a neighbour in the ranking is that close. Only such cosines are computed again: exact
ties, and about 1 in 10,000 others.

Legend: B targets, C candidates of each, P (target, candidate) pairs in a flat list, d width.
"""

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import numpy as np
import torch

from helip.mining.settings import SearchSettings
from helip.mining.stable_dot import double
from helip.mining.vectors import Pairs

BLOCK = 1 << 20  # float64 numbers of candidates held at once: 8 MB; those of 2,048 targets take 20 MB
ULP_FLOAT64 = 2.0**-53

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


def quick_cosines(pairs: Pairs, targets: np.ndarray, where: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    """Float64 cosines of pairs, each within `tolerance` of the one that `rescore.cosines` gives.

    Every candidate row is read and widened once for all targets, and multiplied only with the targets of its pairs
    (torch.sparse.sampled_addmm).

    Args:
        pairs: the embeddings.
        targets: (B,) rows.
        where: (P,) positions among the targets, rising.
        right: (P,) candidate rows.

    Returns:
        Image and text, (P,) each, clipped to [-1, 1].
    """
    rows, place = _distinct(right, len(pairs))
    result: list[np.ndarray] = []
    for vectors in pairs.modalities:
        own = double(torch.from_numpy(np.take(vectors.array, targets, axis=0)))  # (B, d)
        size = max(1, BLOCK // vectors.width)
        dots = np.empty(len(right))
        for first, some in _in_blocks(place, len(rows), size):
            block = double(torch.from_numpy(np.take(vectors.array, rows[first : first + size], axis=0)))  # (<= size, d)
            dots[some] = _asked_dots(own, block, where[some], place[some] - first)
        dots *= vectors.scale[targets[where]] * vectors.scale[right]
        result.append(np.clip(dots, -1.0, 1.0, out=dots))
    return result


def _distinct(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """numpy.unique with inverse, for rows below `count`, without sorting."""
    present = np.zeros(count, bool)
    present[rows] = True
    distinct = np.flatnonzero(present)
    place = np.empty(count, np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[rows]


def _in_blocks(place: np.ndarray, count: int, size: int) -> Iterator[tuple[int, np.ndarray | slice]]:
    """First place of each block of `size` places, and the pairs in it, rising."""
    if count <= size:
        yield 0, slice(None)
        return
    block = (place // size).astype(np.int16 if count // size < 2**15 else np.int32)  # numpy sorts 16 bits by radix
    order = np.argsort(block, kind="stable")
    edges = np.searchsorted(block[order], np.arange(-(-count // size) + 1))
    for number, (start, stop) in enumerate(pairwise(edges)):
        yield number * size, order[start:stop]


def _asked_dots(own: torch.Tensor, block: torch.Tensor, where: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(P,) dot products of own[where] and block[column]; `where` must rise."""
    ends = np.zeros(len(own) + 1, np.int64)
    np.cumsum(np.bincount(where, minlength=len(own)), out=ends[1:])
    asked = torch.sparse_csr_tensor(
        torch.from_numpy(ends),
        torch.from_numpy(column),
        torch.zeros(len(column), dtype=torch.float64),
        size=(len(own), len(block)),
        check_invariants=False,  # the check costs more than the product
    )
    product = cast(torch.Tensor, torch.sparse.sampled_addmm(asked, own, block.T, beta=0.0))
    return product.values().numpy()


def tolerance(width: int) -> float:
    """Bound of the difference between two float64 cosines of `width` products that are added in different orders."""
    return 2 * (width + 8) * ULP_FLOAT64


def near_edges(similar: list[np.ndarray], settings: SearchSettings, close: float) -> np.ndarray:
    """(P,) bool: pairs with a cosine (image and text, (P,) each) within `close` of a limit."""
    doubt = np.zeros(len(similar[0]), bool)
    for values, low, high in zip(similar, settings.lows, settings.highs, strict=True):
        for edge in {0.0, low, high} - {float("-inf"), 1.0}:
            doubt |= np.abs(values - edge) <= close
    return doubt


def unstable(tables: list[np.ndarray], order: np.ndarray, head: int, close: float) -> np.ndarray:
    """Candidates whose order, or whose float32 score, an error of `close` in the cosines could change.

    Args:
        tables: score, image and text, (B, C) float64 each.
        order: (B, H) columns by falling score, H = min(C, head).
        head: one more than the number of stored places.
        close: from `tolerance`.

    Returns:
        (B, C) bool; a whole row where ties extend beyond the head.
    """
    score, image, text = (take_columns(table, order) for table in tables)
    doubt = rounds_two_ways(score, 3 * close)  # a product of two numbers up to 1, each off by `close`, rounded itself
    doubt |= rounds_two_ways(image, close) | rounds_two_ways(text, close)
    tied = (score[:, :-1] - score[:, 1:] <= 6 * close) & (score[:, 1:] > 0)
    doubt[:, 1:] |= tied
    doubt[:, :-1] |= tied
    marked = np.zeros(tables[0].shape, bool)
    np.put_along_axis(marked, order, doubt & (score > 0), axis=1)
    if order.shape[1] == head and head > 1:
        marked[tied[:, -1]] = True
    return marked


def take_columns(table: np.ndarray, order: np.ndarray) -> np.ndarray:
    """As numpy.take_along_axis along rows, five times as fast and without holding the interpreter's lock."""
    return np.take(table.ravel(), order + np.arange(len(table))[:, None] * table.shape[1])


def rounds_two_ways(values: np.ndarray, error: float) -> np.ndarray:
    """Whether values - error and values + error are different float32 numbers."""
    return (values - error).astype(np.float32) != (values + error).astype(np.float32)
