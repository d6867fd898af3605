"""Exact search: every pair is looked at once, in blocks, and only what may belong to the answer is looked at twice.

A low-precision pass gives an upper bound of every score (see bulk). Each target keeps a running threshold, the K-th
largest *lower* bound so far; a candidate whose upper bound is below it cannot be among the best K and is dropped where
it stands. The survivors, half as many again as are kept, go to `rescore`, whose float64 values alone decide. Memory is
bounded by the block, not by N.

Legend: T targets of one thread, S of them at a time, C candidates of a block, K partners.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch

from helip.mining.bulk import BulkSource, as_targets, ulp_of
from helip.mining.rescore import Ranked, rescore
from helip.mining.settings import SearchSettings
from helip.mining.survivors import Survivors
from helip.mining.vectors import Pairs
from helip.mining.workers import Workers

STEP = 1024  # S
FIRST = 512
BLOCK = 2048  # C; two score blocks of S x C bfloat16 are 8 MB, within the caches of a core of today's servers
RESCORED = 1024  # targets whose survivors are rescored at once
Tick = Callable[[int], None]


class ExactSearch:
    """Finds the true hard pairs of any rows.

    Args:
        pairs: the embeddings.
        settings: rules and depth.
        dtype: precision of the bulk pass; None: bfloat16 where that is fast, else float32.
        device: where the bulk pass runs.
    """

    name = "exact"

    def __init__(
        self, pairs: Pairs, settings: SearchSettings, dtype: torch.dtype | None = None, device: str = "cpu"
    ) -> None:
        self.pairs, self.settings, self.device = pairs, settings, torch.device(device)
        self.dtype = dtype or fast_dtype(self.device)
        self.source = BulkSource(pairs, self.dtype, settings.memory // 2, self.device)
        self.workers = Workers(None if self.device.type == "cpu" else 1)

    def search(self, rows: range, tick: Tick = lambda pairs: None) -> Ranked:
        """The hard pairs of consecutive rows.

        Args:
            rows: the targets.
            tick: called with the number of (target, candidate) pairs just looked at.
        """
        share = -(-len(rows) // self.workers.threads)
        pieces = [rows[start : start + share] for start in range(0, len(rows), share)]
        return Ranked.join(self.workers.map(lambda piece: self._search(piece, tick), pieces))

    def _search(self, rows: range, tick: Tick) -> Ranked:
        candidates, overflowed = self._survivors(rows, tick).candidates()
        targets, parts = np.arange(rows.start, rows.stop), []
        for start in range(0, len(rows), RESCORED):
            part = slice(start, start + RESCORED)
            parts.append(rescore(self.pairs, targets[part], candidates[part], self.settings))
            self.workers.check()
        ranked = Ranked.join(parts)
        for position in overflowed:
            ranked.replace(int(position), full_row(self.pairs, rows[int(position)], self.settings))
        return ranked

    def _survivors(self, rows: range, tick: Tick) -> Survivors:
        own = self.source.rows(slice(rows.start, rows.stop))
        sides = [as_targets(side, v.width) for side, v in zip(own, self.pairs.modalities, strict=True)]
        found = Survivors(rows, self.pairs.groups, self.settings, ulp_of(self.dtype), self.device)
        for block in self._blocks():
            candidates = self.source.rows(block)
            worst = [float(side.error.max()) for side in candidates]
            for start in range(0, len(rows), STEP):
                part = slice(start, min(start + STEP, len(rows)))
                upper = [side[0][part] @ c.values.T for side, c in zip(sides, candidates, strict=True)]
                found.add(part, block.start, upper, [side[1][part] for side in sides], worst)
                tick(upper[0].numel())
                self.workers.check()
            found.tighten(block.stop)
        return found

    def _blocks(self) -> Iterator[slice]:
        """The first one is as small as gives a threshold, because all of its bounds are ranked."""
        edges = [0, *range(max(FIRST, 4 * (self.settings.depth + self.settings.skip_first)), len(self.pairs), BLOCK)]
        for start, stop in pairwise([*edges, len(self.pairs)]):
            yield slice(start, stop)


def full_row(pairs: Pairs, row: int, settings: SearchSettings) -> Ranked:
    """The hard pairs of one row by float64 alone: for rows with more near-ties than the bulk pass can tell apart."""
    everyone = np.arange(len(pairs))[None, :]
    return rescore(pairs, np.array([row]), everyone, settings)


def fast_dtype(device: torch.device, size: int = 1024) -> torch.dtype:
    """bfloat16 if this machine multiplies it faster than float32, by a trial of milliseconds."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(size, size, dtype=dtype, device=device)
        trials = []
        for _ in range(4):
            start = perf_counter()
            float((matrix @ matrix)[0, 0])  # reading one number waits for the device
            trials.append(perf_counter() - start)
        seconds[dtype] = min(trials)
    return min(seconds, key=lambda dtype: seconds[dtype])
