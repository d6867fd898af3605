"""Approximate search: targets meet only the members of the cells nearest to their own.

Within those cells the search is exact: the product of both cosines ranks, with every rule, and `rescore` decides. So a
    true
hard pair is missed only if its cell was not looked at, and one exact search of some hundred probe rows tells the recall
of *every* number of cells at once. The smallest number whose confidence interval lies above `min_recall` is taken.

Legend: N rows, n cells, R probed rows.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from helip.errors import HelipError
from helip.mining.bulk import BulkSource
from helip.mining.cells import Cells
from helip.mining.exact import ExactSearch, fast_dtype
from helip.mining.probe import Recall, interval, probe_rows
from helip.mining.rescore import Ranked
from helip.mining.settings import SearchSettings
from helip.mining.sweep import CANDIDATES, Block, Tick, cuts, padded, settle, sweep
from helip.mining.vectors import Pairs
from helip.mining.workers import Workers

MOST = 0.5  # share of all candidates beyond which the exact search is as fast


class ApproximateSearch:
    """Finds most hard pairs of rows.

    Args:
        pairs: the embeddings.
        settings: rules and depth.
        cells: the grouping.
        probes: cells that each target meets, its own included.
        device: where the bulk pass runs.
        scratch: folder for what does not fit in memory.
    """

    name = "approximate"

    def __init__(
        self,
        pairs: Pairs,
        settings: SearchSettings,
        cells: Cells,
        probes: int,
        device: str = "cpu",
        scratch: Path | None = None,
    ) -> None:
        self.pairs, self.settings, self.cells, self.probes = pairs, settings, cells, probes
        self.order = cells.order
        place = torch.device(device)
        self.source = BulkSource(pairs, fast_dtype(place), settings.memory, place, cells.order, scratch=scratch)
        self.workers = Workers(None if place.type == "cpu" else 1)

    def search(self, places: range, tick: Tick = lambda pairs: None) -> Ranked:
        """The hard pairs of the rows order[places]."""
        pieces = np.array_split(np.arange(places.start, places.stop), min(self.workers.threads, len(places)))
        return Ranked.join(
            self.workers.map(lambda piece: self._search(int(piece[0]), int(piece[-1]) + 1, tick), pieces)
        )

    def cost(self, places: range) -> int:
        """Pairs that `search` will look at."""
        sizes = np.diff(self.cells.starts)
        return sum(
            (stop - start) * int(sizes[self.cells.near[cell, : self.probes]].sum())
            for cell, start, stop in self._cells(places.start, places.stop)
            if cell >= 0
        )

    def _cells(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(cell, first place, end) of each cell's part in some places; cell -1 holds the rows that are not valid."""
        while start < stop:
            cell = int(np.searchsorted(self.cells.starts, start, side="right")) - 1
            last = cell == len(self.cells.starts) - 1
            end = stop if last else min(stop, int(self.cells.starts[cell + 1]))
            yield (-1 if last else cell), start, end
            start = end

    def _search(self, start: int, stop: int, tick: Tick) -> Ranked:
        def count(done: int) -> None:
            self.workers.check()
            tick(done)

        parts = []
        for cell, first, end in self._cells(start, stop):
            targets = self.order[first:end]
            members = self.cells.members(cell, self.probes) if cell >= 0 else np.empty(0, np.int64)
            blocks = self._blocks(members, first, end)
            own = self.source.rows(slice(first, end))
            found = sweep(self.pairs, targets, own, blocks, self.settings, count)
            parts.append(settle(self.pairs, targets, *found, self.order[members], self.settings))
        return Ranked.join(parts)

    def _blocks(self, members: np.ndarray, first: int, end: int) -> Iterator[Block]:
        """A cell's own members come first, so its targets are found at the head of `members`."""
        places = np.arange(first, end)
        for part in cuts(len(members), self.settings):
            some = members[part]
            sides = self.source.rows(some)
            image, text = (padded(side, CANDIDATES) for side in sides)
            rows = np.pad(self.order[some], (0, len(image.values) - len(some)))
            yield Block(rows, (image, text), places - members[0] - part.start)


def choose_probes(pairs: Pairs, settings: SearchSettings, cells: Cells, device: str = "cpu") -> tuple[int, Recall]:
    """Fewest cells whose recall is at least `min_recall` by the lower end of its interval.

    Raises:
        HelipError: more than half of all candidates would be needed, or more cells than are remembered.
    """
    rows = probe_rows(pairs, settings)
    truth = ExactSearch(pairs, settings, device=device).search_rows(rows).rows
    cell = np.empty(len(pairs), np.int64)
    cell[cells.order] = np.searchsorted(cells.starts, np.arange(len(pairs)), side="right") - 1
    rank = _ranks(cells, cell[rows], np.where(truth >= 0, cell[truth], -1))
    sizes = np.diff(cells.starts)
    met = np.cumsum(sizes[cells.near], axis=1)  # candidates by number of cells
    share = (met * sizes[:, None]).sum(axis=0) / max(1, int(sizes.sum())) ** 2  # of all pairs, by number of cells
    true = (truth >= 0).sum(axis=1)
    best = Recall(0.0, 0.0, 1.0, 0)
    for probes in range(1, cells.near.shape[1] + 1):
        best = interval((rank < probes).sum(axis=1), true)
        if best.low >= settings.min_recall:
            return probes, best
        if share[probes - 1] > MOST:
            break
    raise HelipError(
        f"the approximate search cannot reach search.min_recall={settings.min_recall}: with {probes} of "
        f"{len(sizes)} cells, {share[probes - 1]:.0%} of all pairs, its recall is {best}: "
        "use search.backend=exact or a lower search.min_recall."
    )


def _ranks(cells: Cells, own: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """How near the cell of each partner is to that of its target: (R, K), beyond all cells for padding (-1)."""
    far = cells.near.shape[1]
    table = np.full((len(own), len(cells.starts)), far, np.int32)
    np.put_along_axis(table, cells.near[own].astype(np.int64), np.arange(far, dtype=np.int32)[None, :], axis=1)
    table[:, -1] = far + 1
    return np.take_along_axis(table, partners, axis=1)
