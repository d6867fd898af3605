"""Exact search: every pair is looked at once, in blocks, and only what may belong to the answer is looked at twice.

A low-precision pass gives an upper bound of every score (see bulk). Each target keeps a running threshold, the K-th
largest *lower* bound so far; a candidate whose upper bound is below it cannot be among the best K and is dropped where
it stands. The survivors, half as many again as are kept, go to `rescore`, whose float64 values alone decide. Memory is
bounded by the block, not by N.

Legend: T targets of a unit of work, S of them at a time, C candidates of a block, K partners, F survivors in a flat
    list.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from helip.mining.bulk import BulkSource, as_targets, ulp_of
from helip.mining.rescore import Ranked, rescore
from helip.mining.settings import SearchSettings
from helip.mining.survivors import Survivors
from helip.mining.vectors import Pairs

STEP = 1024  # S
BLOCK = 2048  # C; S x C x 2 bytes x 2 modalities is 8 MB, within the caches of two cores
Tick = Callable[[int], None]


class ExactSearch:
    """Finds the true hard pairs of any rows.

    Args:
        pairs: the embeddings.
        settings: rules and depth.
        dtype: precision of the bulk pass.
        device: where the bulk pass runs.
    """

    name = "exact"

    def __init__(
        self, pairs: Pairs, settings: SearchSettings, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
    ) -> None:
        self.pairs, self.settings, self.dtype, self.device = pairs, settings, dtype, torch.device(device)
        self.source = BulkSource(pairs, dtype, settings.memory // 2, self.device)

    def search(self, rows: range, tick: Tick = lambda pairs: None) -> Ranked:
        """The hard pairs of some rows.

        Args:
            rows: consecutive targets, T of them.
            tick: called with the number of (target, candidate) pairs just looked at.
        """
        found = self._survivors(rows, tick)
        candidates, overflowed = found.candidates()
        targets = np.arange(rows.start, rows.stop)
        ranked = rescore(self.pairs, targets, candidates, self.settings)
        for position in overflowed:
            ranked.replace(int(position), full_row(self.pairs, rows.start + int(position), self.settings))
        return ranked

    def _survivors(self, rows: range, tick: Tick) -> Survivors:
        block = self.source.rows(slice(rows.start, rows.stop))
        sides = [as_targets(b, v.width) for b, v in zip(block, self.pairs.modalities, strict=True)]
        found = Survivors(rows, self.pairs.groups, self.settings, ulp_of(self.dtype), self.device)
        for chunk in _chunks(len(self.pairs)):
            image, text = self.source.rows(chunk)
            worst = [float(side.error.max()) for side in (image, text)]
            for start in range(0, len(rows), STEP):
                part = slice(start, min(start + STEP, len(rows)))
                upper = [side[0][part] @ c.values.T for side, c in zip(sides, (image, text), strict=True)]
                found.add(part, chunk.start, upper, [side[1][part] for side in sides], worst)
                tick((part.stop - part.start) * (chunk.stop - chunk.start))
            found.tighten()
        return found


def full_row(pairs: Pairs, row: int, settings: SearchSettings) -> Ranked:
    """The hard pairs of one row by float64 alone: for rows with more near-ties than the bulk pass can tell apart."""
    everyone = np.arange(len(pairs))[None, :]
    return rescore(pairs, np.array([row]), everyone, settings)


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))
