"""Approximate search: targets meet only the members of the cells nearest to their own.

Within those cells the search is exact: the product of both cosines ranks, with every rule, and `rescore` decides. A
    true
hard pair is missed only if its cell is not looked at, so one exact search of some hundred probe rows tells the recall
of *every* number of cells at once. The smallest number whose confidence interval lies above `min_recall` is taken, and
the finished index is measured on the same rows.

Legend: N rows, n cells, R probed rows.
"""

from collections.abc import Iterator

import numpy as np

from helip.errors import HelipError
from helip.mining.bulk import BulkSource
from helip.mining.cells import Cells
from helip.mining.probe import Recall, interval
from helip.mining.rescore import Ranked
from helip.mining.settings import SearchSettings
from helip.mining.sweep import CANDIDATES, FEEDERS, Block, Tick, cuts, padded, settle, sweep
from helip.mining.vectors import Pairs, on_device
from helip.mining.workers import Workers

BLOCK = 4096  # candidates met at once: most targets then meet all of theirs at once
MOST = 0.5  # share of all candidates beyond which the exact search is as fast


class ApproximateSearch:
    """Finds most hard pairs of rows.

    Args:
        pairs: the embeddings.
        settings: rules and depth.
        cells: the grouping.
        probes: cells that each target meets, its own included.
        source: rounded rows in the order of the cells.
    """

    name = "approximate"

    def __init__(self, pairs: Pairs, settings: SearchSettings, cells: Cells, probes: int, source: BulkSource) -> None:
        self.settings, self.cells, self.probes = settings, cells, probes
        self.pairs = on_device(pairs, source.device)
        self.order, self.source = cells.targets, source
        self.place = np.zeros(len(pairs), np.int64)  # of each row in the order of the cells
        self.place[cells.order] = np.arange(len(cells.order))
        self.workers = Workers(None if source.device.type == "cpu" else FEEDERS)

    def search(self, places: range, tick: Tick = lambda pairs: None) -> Ranked:
        """The hard pairs of the rows order[places]."""
        pieces = np.array_split(np.arange(places.start, places.stop), min(self.workers.threads, len(places)))
        return Ranked.join(
            self.workers.map(lambda piece: self._search(int(piece[0]), int(piece[-1]) + 1, tick), pieces)
        )

    def cost(self, places: range) -> int:
        """Pairs that `search` will look at."""
        return sum((end - first) * len(self._members(cell)) for cell, first, end in self._cells(*_ends(places)))

    def _members(self, cell: int) -> np.ndarray:
        """Places of the candidates of a cell's targets; of the strays: everyone, of invalid rows: no one."""
        count = len(self.cells.starts) - 1
        if cell < count:
            return self.cells.members(cell, self.probes)
        return np.arange(len(self.cells.order) if cell == count else 0)

    def _cells(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(cell, first place, end) of each cell's part in some places; cell n: strays, n + 1: invalid rows."""
        edges = self.cells.target_starts
        while start < stop:
            cell = int(np.searchsorted(edges, start, side="right")) - 1
            end = min(stop, int(edges[cell + 1])) if cell + 1 < len(edges) else stop
            yield cell, start, end
            start = end

    def _search(self, start: int, stop: int, tick: Tick) -> Ranked:
        def count(done: int) -> None:
            self.workers.check()
            tick(done)

        parts = []
        for cell, first, end in self._cells(start, stop):
            targets, members = self.order[first:end], self._members(cell)
            blocks = self._blocks(members, self.place[targets])
            own = self.source.rows(self.place[targets])
            single = len(cuts(len(members), self.settings, BLOCK)) == 1
            found = sweep(self.pairs, targets, own, blocks, self.settings, count, single)
            parts.append(settle(self.pairs, targets, *found, self.cells.order[members], self.settings))
        return Ranked.join(parts)

    def _blocks(self, members: np.ndarray, places: np.ndarray) -> Iterator[Block]:
        """A cell's own members come first, so its targets are found at the head of `members`."""
        for part in cuts(len(members), self.settings, BLOCK):
            some = members[part]
            image, text = (padded(side, CANDIDATES) for side in self.source.rows(some))
            rows = np.pad(self.cells.order[some], (0, len(image.values) - len(some)))
            own = places - members[0] - part.start
            yield Block(rows, (image, text), np.where(own < len(some), own, -1))


def _ends(places: range) -> tuple[int, int]:
    return places.start, places.stop


def choose_probes(pairs: Pairs, settings: SearchSettings, cells: Cells, rows: np.ndarray, truth: np.ndarray) -> int:
    """Fewest cells whose recall is at least `min_recall` by the lower end of its interval.

    Args:
        pairs, settings, cells: of the search.
        rows: (R,) int64 probed rows.
        truth: (R, K) their true hard pairs, -1 padded.

    Raises:
        HelipError: more than half of all candidates would be needed, or more cells than are remembered.
    """
    cell = cells.cell_of(len(pairs))
    rank = _ranks(cells, cell[rows], np.where(truth >= 0, cell[truth], len(cells.starts)))
    rank[cells.is_stray()[rows, None] & (truth >= 0)] = 0
    sizes = np.diff(cells.starts)
    met = np.cumsum(sizes[cells.near], axis=1)  # candidates by number of cells
    share = (met * sizes[:, None]).sum(axis=0) / max(1, int(sizes.sum())) ** 2  # of all pairs, by number of cells
    true = (truth >= 0).sum(axis=1)
    best = Recall(0.0, 0.0, 1.0, 0)
    for probes in range(1, cells.near.shape[1] + 1):
        best = interval((rank < probes).sum(axis=1), true)
        if best.low >= settings.min_recall:
            return probes
        if share[probes - 1] > MOST:
            break
    raise HelipError(
        f"the approximate search cannot reach search.min_recall={settings.min_recall}: with {probes} of "
        f"{len(sizes)} cells, {share[probes - 1]:.0%} of all pairs, its recall is {best}: "
        "use search.backend=exact or a lower search.min_recall."
    )


def _ranks(cells: Cells, own: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """(R, K) how near the cell of each partner is to its target's, from 0; beyond all for n + 1, which pads."""
    far = cells.near.shape[1]
    table = np.full((len(own), len(cells.starts) + 1), far, np.int32)
    np.put_along_axis(table, cells.near[own].astype(np.int64), np.arange(far, dtype=np.int32)[None, :], axis=1)
    return np.take_along_axis(table, partners, axis=1)
