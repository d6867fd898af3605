"""The order of the targets: a pure function of (seed, epoch, position) with local reads.

Each epoch permutes the shards and takes them in windows of `window` shards; the rows inside a window are permuted.
Decision: row numbers are shuffled, not data, so the number of consumed pairs is the whole state of the stream.
Legend: N rows, S shards.
"""

from collections import OrderedDict
from itertools import pairwise

import numpy as np

from helip.errors import HelipError

SHARDS, ROWS, WEIGHTS = 1, 2, 3  # separate streams of random numbers
AGAIN = 1 << 32  # added to the visit number for each repetition within an epoch; larger than any epoch


class TargetOrder:
    """An endless sequence of (visit, row); each epoch visits every live row once, or as often as its shard's weight.

    The visit number is the epoch, plus AGAIN for each repetition within it: draws by (seed, visit, row) differ.

    Args:
        live: (N,) bool, possible targets.
        starts: (S + 1,) first row of each shard, then N.
        seed: of the permutations.
        window: number of shards whose rows are shuffled together.
        weights: (S,) visits per epoch of the rows of each shard; a fraction visits a share of the rows, redrawn each
            epoch. None: 1.

    Raises:
        HelipError: no live row, or a negative seed.
    """

    def __init__(
        self, live: np.ndarray, starts: np.ndarray, seed: int, window: int, weights: np.ndarray | None = None
    ) -> None:
        if seed < 0:
            raise HelipError(f"seed={seed} must be 0 or more")
        self.weights = weights
        self.live, self.starts, self.seed, self.window = live, np.asarray(starts), seed, window
        # (S,) live rows, counted shard by shard because one sum over all rows would need 8 bytes per row
        self.counts = np.array([np.count_nonzero(live[first:end]) for first, end in pairwise(self.starts)], np.int64)
        if weights is not None:
            self.counts = np.rint(self.counts * weights).astype(np.int64)
        self.length = int(self.counts.sum())
        if self.length == 0:
            raise HelipError("no row is left to train on: every target was invalid or an outlier")
        self._epochs: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._windows: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def __getitem__(self, position: int) -> tuple[int, int]:
        """(visit, row) of the target at an absolute position >= 0."""
        epoch, within = divmod(position, self.length)
        shards, ends = self._epoch(epoch)
        number = int(np.searchsorted(ends, within, side="right"))
        first = int(ends[number - 1]) if number else 0
        again, row = divmod(int(self._rows(epoch, number, shards)[within - first]), len(self.live))
        return epoch + again * AGAIN, row

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Permuted shards (S,) and the end position of each window."""
        if epoch not in self._epochs:
            shards = np.random.default_rng([self.seed, SHARDS, epoch]).permutation(len(self.counts))
            ends = np.cumsum(np.add.reduceat(self.counts[shards], np.arange(0, len(shards), self.window)))
            keep_two(self._epochs, epoch, (shards, ends))
        return self._epochs[epoch]

    def _rows(self, epoch: int, number: int, shards: np.ndarray) -> np.ndarray:
        if (epoch, number) not in self._windows:
            chosen = shards[number * self.window : (number + 1) * self.window]
            rows = np.concatenate([self._rows_of_shard(epoch, int(shard)) for shard in np.sort(chosen)])
            permuted = np.random.default_rng([self.seed, ROWS, epoch, number]).permutation(rows)
            keep_two(self._windows, (epoch, number), permuted)
        return self._windows[(epoch, number)]

    def _rows_of_shard(self, epoch: int, shard: int) -> np.ndarray:
        """(counts[shard],) live rows, repeated by the weight; N is added for each earlier visit of the row."""
        rows = np.flatnonzero(self.live[self.starts[shard] : self.starts[shard + 1]]) + self.starts[shard]
        if self.weights is None or not len(rows):
            return rows
        whole, rest = divmod(int(self.counts[shard]), len(rows))
        drawn = np.random.default_rng([self.seed, WEIGHTS, epoch, shard]).choice(rows, rest, replace=False)
        visits = [rows] * whole + [drawn]
        return np.concatenate([again * len(self.live) + visit for again, visit in enumerate(visits)])


def keep_two(cache: OrderedDict, key: object, value: object) -> None:
    """Add to a cache of the two latest; with rising positions a batch spans at most two windows and two epochs."""
    cache[key] = value
    while len(cache) > 2:
        cache.popitem(last=False)
