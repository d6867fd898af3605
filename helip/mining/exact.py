# pyright: strict, reportUnknownMemberType=false
"""Exact search: a low-precision pass over all pairs, block by block, then float64 for the few that may be hard pairs.

The first pass gives an upper bound of every score (see bounds). Each target keeps a running threshold, the K-th largest
*lower* bound so far. A candidate whose upper bound is below the threshold cannot be among the best K and is dropped.
`rescore` computes the others, about 1.5 K per target, in float64; only these values decide. Memory is bounded by the
block, not by N.

Legend: N rows, T targets.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from helip.mining.bounds import RowSource
from helip.mining.flat import Block
from helip.mining.rescore import Ranked
from helip.mining.settings import SearchSettings
from helip.mining.sweep import Sweep, Tick, cuts, full_sums, shape_on
from helip.mining.vectors import Pairs, on_device
from helip.mining.workers import Workers, feeding

SIZE = 1024  # of the matrices of a trial
EMULATED = 5  # times slower than the fastest in a small product (measured: native types 0.5 to 2, emulated ones 24)


class ExactSearch:
    """Finds the true hard pairs of any rows.

    Args:
        pairs: the embeddings.
        settings: rules and depth.
        dtype: precision of the bulk pass; None: bfloat16 where that is fast, else float32.
        device: where the bulk pass runs.
        scratch: folder for what does not fit in memory.
        source: rounded rows in any order, if they exist already; made here if None.
    """

    name = "exact"
    order = None  # a unit of work is consecutive rows

    def __init__(
        self,
        pairs: Pairs,
        settings: SearchSettings,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        scratch: Path | None = None,
        source: RowSource | None = None,
    ) -> None:
        self.settings, self.device = settings, torch.device(device)
        self.pairs = pairs = on_device(pairs, self.device)
        if source is None:
            source = RowSource(pairs, dtype or fast_dtype(self.device), settings.memory, self.device, scratch=scratch)
        self.source = source
        self.place = np.arange(len(pairs))  # place of each row in the source, which may lack rows that are not valid
        if source.order is not None:
            self.place[source.order] = np.arange(source.count)
        self.shape = shape_on(self.device)
        self._order = None if source.order is None else torch.from_numpy(source.order).to(self.device)
        resident = pairs.resident if source.order is None else None  # bits are in the order of rows
        self._words = None if resident is None else resident.words
        self.workers = Workers.on(self.device)

    def search(self, places: range, tick: Tick = lambda pairs: None) -> Ranked:
        """The hard pairs of consecutive rows.

        Args:
            places: rows of the targets.
            tick: called with the number of (target, candidate) pairs just looked at.
        """
        return self.search_rows(np.arange(places.start, places.stop), tick)

    def search_rows(self, targets: np.ndarray, tick: Tick = lambda pairs: None) -> Ranked:
        """The hard pairs of any (T,) int64 rows."""
        pieces = np.array_split(targets, min(self.workers.threads, len(targets)))
        return Ranked.join(self.workers.map(lambda piece: self._search(piece, tick), pieces))

    def edges(self, unit: int) -> list[int]:
        """Bounds of units of work of `unit` targets."""
        return [*range(0, len(self.pairs), unit), len(self.pairs)]

    def cost(self, places: range) -> int:
        """Pairs that `search` will look at."""
        return len(places) * len(self.pairs)

    def _search(self, targets: np.ndarray, tick: Tick) -> Ranked:
        places, all_rows = self.place[targets], np.arange(len(self.pairs))
        with feeding(self.device):
            work = Sweep(self.pairs, targets, self.source.rows(places), self.settings, self.shape)
            return work.ranked(self._blocks(places), all_rows, self.workers.checked(tick))

    def _blocks(self, places: np.ndarray) -> Iterator[Block]:
        own = torch.from_numpy(places).to(self.device)
        for part in cuts(self.source.count, self.settings, self.shape.candidates, self.shape.first):
            rows = torch.arange(part.start, part.stop, device=self.device)
            rows = rows if self._order is None else self._order[rows]
            words = None if self._words is None else self._words[part.start // 32 : -(-part.stop // 32)]
            yield Block(rows, self.source.rows(part), own - part.start, self.source.worst(part), words)


@cache
def fast_dtype(device: torch.device) -> torch.dtype:
    """The type that this machine multiplies fastest, by a short trial; float16, which is more exact, if about as fast.

    A type that the processor lacks is emulated, 60 times slower than float32 at full size (float16 on an AMD processor,
    measured). A small product detects it, so that it is not tried at full size.
    """
    glance = {dt: product_seconds(dt, device, SIZE // 8) for dt in (torch.float16, torch.bfloat16, torch.float32)}
    native = [dtype for dtype, time in glance.items() if time <= EMULATED * min(glance.values())]
    seconds = {dtype: product_seconds(dtype, device, SIZE) for dtype in native}
    fastest = min(seconds.values())
    return next(dtype for dtype, time in seconds.items() if time <= (1.3 if dtype == torch.float16 else 1) * fastest)


def product_seconds(dtype: torch.dtype, device: torch.device, size: int) -> float:
    """Seconds of a product of two (size, size) matrices: the least of four."""
    full_sums(device)
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    trials: list[float] = []
    for _ in range(4):
        start = perf_counter()
        float((matrix @ matrix)[0, 0])  # reading one number waits for the device
        trials.append(perf_counter() - start)
    return min(trials)
