# pyright: strict, reportUnknownMemberType=false
"""Approximate search: a target is compared only with the members of the cells nearest to its own.

Within those cells the search ranks by the product of both cosines, under all rules, and `rescore` decides. It misses a
true hard pair only if it does not look at the pair's cell. So one exact search of some hundred probe rows gives the
recall for *every* number of cells and of strays at once. The search does the least work whose confidence interval lies
above `min_recall`, and measures the finished index on the same rows.

Unlike the exact search this one trusts the order of its low-precision scores and keeps a few more candidates. Proven
bounds would double the candidates to rescore on dense synthetic clusters (118 instead of 61 for 50). Matrix products of
other shapes may round differently, so one thread always searches a whole cell: the result does not depend on ranks,
threads or interruptions.

Legend: N rows, n cells, R probed rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from helip.mining.bounds import RowSource
from helip.mining.cells import Cells
from helip.mining.flat import Block
from helip.mining.probe import Recall, interval
from helip.mining.rescore import Ranked
from helip.mining.settings import SearchSettings
from helip.mining.sweep import CANDIDATES, TARGETS, Sweep, Tick, cuts, shape_on
from helip.mining.vectors import Pairs, on_device
from helip.mining.workers import Workers, feeding

BLOCK = 8192  # candidates in a product: most targets then have one block, and their thresholds are set once
SLACK = 2  # candidates kept beyond K, with ties in bfloat16; recall within the cells is then 0.9999 (real pairs)
TOGETHER = 1024  # strays searched at once
STRAYS = (0.0, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05)  # shares of strays that are tried
MOST = 0.5  # share of all candidates above which the exact search is as fast


class ApproximateSearch:
    """Finds most hard pairs of rows.

    Args:
        pairs: the embeddings.
        settings: rules and depth.
        cells: the grouping.
        probes: number of cells that each target is compared with, its own included.
        source: rounded rows in the order of the cells.
    """

    name = "approximate"

    def __init__(self, pairs: Pairs, settings: SearchSettings, cells: Cells, probes: int, source: RowSource) -> None:
        self.settings, self.cells, self.probes = settings, cells, probes
        self.pairs = on_device(pairs, source.device)
        self.order, self.source = cells.targets, source
        self.place = np.zeros(len(pairs), np.int64)  # place of each row in the order of the cells
        self.place[cells.order] = np.arange(len(cells.order))
        starts = cells.target_starts
        self._parts = [*starts[:-1], *range(int(starts[-2]), int(starts[-1]), TOGETHER), starts[-1], len(pairs)]
        self._parts = sorted({int(place) for place in self._parts})  # where a cell or a group of strays begins
        self.shape = shape_on(source.device)
        self.workers = Workers.on(source.device)

    def edges(self, unit: int) -> list[int]:
        """Bounds of units of whole cells of at least 4 `unit` targets, which cost far less than in an exact search."""
        edges = [0]
        for place in self._parts:
            if place - edges[-1] >= 4 * unit or place == len(self.pairs):
                edges.append(place)
        return sorted(set(edges))

    def search(self, places: range, tick: Tick = lambda pairs: None) -> Ranked:
        """The hard pairs of the rows order[places], where `places` lie between two `edges`."""
        parts = sorted(self._inside(places), key=lambda part: part[0] - part[1])  # large parts first: an even finish
        found = self.workers.map(lambda part: self._search(*part, tick), parts)
        return Ranked.join([ranked for _, ranked in sorted(zip(parts, found, strict=True), key=lambda pair: pair[0])])

    def cost(self, places: range) -> int:
        """Pairs that `search` will look at."""
        return sum((end - first) * len(self._members(self._cell(first))) for first, end in self._inside(places))

    def _inside(self, places: range) -> list[tuple[int, int]]:
        """(first, end) of each cell, or group of strays, in a unit of work."""
        inner = [place for place in self._parts if places.start < place < places.stop]
        return list(pairwise([places.start, *inner, places.stop]))

    def _cell(self, place: int) -> int:
        """Cell of the target at a place; n for strays, n + 1 for rows that are not valid."""
        return int(np.searchsorted(self.cells.target_starts, place, side="right")) - 1

    def _members(self, cell: int) -> np.ndarray:
        """Places of the candidates of a cell's targets: all rows for strays, none for invalid rows."""
        count = len(self.cells.starts) - 1
        if cell < count:
            return self.cells.members(cell, self.probes)
        return np.arange(len(self.cells.order) if cell == count else 0)

    def _search(self, first: int, end: int, tick: Tick) -> Ranked:
        targets, members = self.order[first:end], self._members(self._cell(first))
        single = len(cuts(len(members), self.settings, BLOCK)) == 1
        with feeding(self.source.device):
            blocks, own = self._blocks(members, self.place[targets]), self.source.rows(self.place[targets], TARGETS)
            work = Sweep(self.pairs, targets, own, self.settings, self.shape, single, SLACK)
            return work.ranked(blocks, self.cells.order[members], self.workers.checked(tick))

    def _blocks(self, members: np.ndarray, places: np.ndarray) -> Iterator[Block]:
        """Blocks of the candidates. A cell's own members come first, so its targets are at the head of `members`."""
        device = self.source.device
        for part in cuts(len(members), self.settings, BLOCK):
            some = members[part]
            image, text = self.source.rows(some, CANDIDATES)
            rows = np.pad(self.cells.order[some], (0, len(image.values) - len(some)))
            own = places - members[0] - part.start
            own = np.where(own < len(some), own, -1)
            there, at = (torch.from_numpy(values).to(device) for values in (rows, own))
            yield Block(there, (image, text), at, self.source.worst(some))


@dataclass(frozen=True)
class Work:
    """How much the search looks at.

    Attributes:
        strays: number of rows that are compared with all rows.
        probes: number of cells that every other target is compared with; 0 if no number reaches `min_recall`.
        share: share of all pairs that are looked at.
        recall: expected recall; if `probes` is 0, the best that was seen.
    """

    strays: int
    probes: int
    share: float
    recall: Recall


def choose_work(pairs: Pairs, settings: SearchSettings, cells: Cells, rows: np.ndarray, truth: np.ndarray) -> Work:
    """The least work whose recall is at least `min_recall` at the lower end of its interval.

    Args:
        pairs, settings, cells: as for the search.
        rows: (R,) int64 probed rows.
        truth: (R, K) their true hard pairs, -1 padded.
    """
    cell = cells.cell_of(len(pairs))
    rank = _ranks(cells, cell[rows], np.where(truth >= 0, cell[truth], len(cells.starts)))
    fit = np.empty(len(pairs), np.int64)
    fit[cells.order] = cells.fit_rank()
    sizes = np.diff(cells.starts)
    met = np.cumsum(sizes[cells.near], axis=1)  # candidates by number of cells
    shares = (met * sizes[:, None]).sum(axis=0) / max(1, int(sizes.sum())) ** 2  # share of all pairs by number of cells
    true, best = (truth >= 0).sum(axis=1), Work(0, 0, MOST, Recall(0.0, 0.0, 1.0, 0))
    for part in STRAYS:
        strays = int(part * len(cells.order))
        met_all = (fit[rows] < strays)[:, None] & (truth >= 0)
        for probes in range(1, cells.near.shape[1] + 1):
            share = part + (1 - part) * float(shares[probes - 1])
            if share > best.share:
                break
            recall = interval(((rank < probes) | met_all).sum(axis=1), true)
            if recall.low >= settings.min_recall:
                best = Work(strays, probes, share, recall)
            elif not best.probes and recall.low > best.recall.low:
                best = replace(best, recall=recall)
    return best


def _ranks(cells: Cells, own: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """(R, K) rank of each partner's cell by nearness to its target's, from 0; the last rank for padding (n + 1)."""
    far = cells.near.shape[1]
    table = np.full((len(own), len(cells.starts) + 1), far, np.int32)
    np.put_along_axis(table, cells.near[own].astype(np.int64), np.arange(far, dtype=np.int32)[None, :], axis=1)
    return np.take_along_axis(table, partners, axis=1)
