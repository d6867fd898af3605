# pyright: strict, reportUnknownMemberType=false
"""FastHPM (arXiv 2305.05208): candidates are a uniform random pool of m rows instead of all N, at m / N of the cost.

The pool holds only about m / N of the true hard pairs.

Legend: N rows, m rows of a pool, T targets.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from helip.mining.bounds import RowSource
from helip.mining.exact import fast_dtype
from helip.mining.flat import Block
from helip.mining.rescore import Ranked
from helip.mining.settings import SearchSettings
from helip.mining.sweep import Shape, Sweep, Tick, cuts, shape_on
from helip.mining.vectors import Pairs, on_device
from helip.mining.workers import Workers, feeding


class PoolSearch:
    """Finds the best partners in a random pool.

    Args:
        pairs: the embeddings.
        settings: rules, depth, `pool_size` and `pool_redraw`.
        device: where the bulk pass runs.
        scratch: folder for what does not fit in memory.
    """

    name = "pool"
    order = None

    def __init__(
        self, pairs: Pairs, settings: SearchSettings, device: str = "cpu", scratch: Path | None = None
    ) -> None:
        self.settings, self.device = settings, torch.device(device)
        self.pairs = on_device(pairs, self.device)
        self.scratch = scratch
        self.dtype = fast_dtype(self.device)
        self.workers = Workers.on(self.device)
        self._pool: tuple[int, np.ndarray, RowSource] | None = None

    def search(self, places: range, tick: Tick = lambda pairs: None) -> Ranked:
        """The best partners of consecutive rows in their pool."""
        every = self.settings.pool_redraw or len(self.pairs)
        parts: list[Ranked] = []
        for number in range(places.start // every, (places.stop - 1) // every + 1):
            pool, source = self._drawn(number)
            targets = np.arange(max(places.start, number * every), min(places.stop, (number + 1) * every))
            pieces, shape = np.array_split(targets, min(self.workers.threads, len(targets))), shape_on(self.device)
            search = partial(self._search, pool=pool, source=source, shape=shape, tick=tick)
            parts += self.workers.map(search, pieces)
        return Ranked.join(parts)

    def edges(self, unit: int) -> list[int]:
        """Bounds of units of work of `unit` targets."""
        return [*range(0, len(self.pairs), unit), len(self.pairs)]

    def cost(self, places: range) -> int:
        """Pairs that `search` will look at."""
        return len(places) * min(self.settings.pool_size, int(self.pairs.partner.sum()))

    def _drawn(self, number: int) -> tuple[np.ndarray, RowSource]:
        """The rows of a pool in rising order, and their rounded vectors; the last pool is cached."""
        if self._pool is None or self._pool[0] != number:
            rows = draw_pool(self.pairs, self.settings, number)
            source = RowSource(self.pairs, self.dtype, self.settings.memory, self.device, rows, scratch=self.scratch)
            self._pool = number, rows, source
        return self._pool[1], self._pool[2]

    def _search(self, targets: np.ndarray, pool: np.ndarray, source: RowSource, shape: Shape, tick: Tick) -> Ranked:
        own = RowSource(self.pairs, self.dtype, self.settings.memory, self.device, targets).rows(slice(None))
        with feeding(self.device):
            blocks = _blocks(targets, pool, source, self.settings, shape)
            work = Sweep(self.pairs, targets, own, self.settings, shape)
            return work.ranked(blocks, pool, self.workers.checked(tick))


def draw_pool(pairs: Pairs, settings: SearchSettings, number: int) -> np.ndarray:
    """(m,) int64 rows in rising order: pool `number` of the seed, drawn uniformly without replacement."""
    valid = np.flatnonzero(pairs.partner)
    rng = np.random.default_rng((settings.seed, 0xF457, number))
    return np.sort(rng.choice(valid, min(settings.pool_size, len(valid)), replace=False))


def _blocks(
    targets: np.ndarray, pool: np.ndarray, source: RowSource, settings: SearchSettings, shape: Shape
) -> Iterator[Block]:
    place = np.searchsorted(pool, targets)
    place[pool[np.minimum(place, len(pool) - 1)] != targets] = -len(pool)  # not in the pool
    own, rows = (torch.from_numpy(values).to(source.device) for values in (place, pool))
    for part in cuts(len(pool), settings, shape.candidates, shape.first):
        yield Block(rows[part], source.rows(part), own - part.start, source.worst(part))
