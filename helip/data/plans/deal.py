"""One epoch of graph batches: whole clusters per batch, every row once, in a new order each epoch.

Batches of B rows continue across epochs, so an epoch may begin and end inside a batch. Clusters smaller than K are
combined to blocks of K. The smallest clusters are split if sizes do not add up, and for the rows before the first and
after the last whole block.
Legend: n rows, C clusters, K rows of a block, S shards.
"""

from collections.abc import Iterator

import numpy as np

from helip.artifacts.partitions import Partition

WINDOWS, CLUSTERS, BLOCKS = 31, 32, 33  # separate streams of random numbers


def deal(
    partition: Partition, starts: np.ndarray, batch_size: int, size: int, window: int, seed: int, epoch: int
) -> np.ndarray:
    """(n,) int32 rows of an epoch, in order.

    Args:
        partition: clusters of at most `size` rows.
        starts: (S + 1,) first row of each shard.
        batch_size: a multiple of `size`.
        size: K.
        window: number of shards whose clusters are shuffled together; a cluster belongs to the shard of its first row.
        seed: of the order.
        epoch: from 0.
    """
    count = len(partition.rows)
    head = -epoch * count % batch_size % size  # rows before the next block of a batch
    tail = (count - head) % size
    shards = np.random.default_rng([seed, WINDOWS, epoch]).permutation(len(starts) - 1)
    near = np.empty(len(shards), np.int32)  # window of each shard
    near[shards] = np.arange(len(shards)) // window
    queues = _Queues(partition, near, starts, size, np.random.default_rng([seed, CLUSTERS, epoch]))
    odd = queues.singles(head + tail)
    blocks = np.concatenate([np.empty((0, size), np.int32), *queues.blocks()])  # (blocks, K)
    at = np.random.default_rng([seed, BLOCKS, epoch]).permutation(len(blocks))
    home = near[np.searchsorted(starts, blocks[at, 0], side="right") - 1]
    blocks = blocks[at[np.argsort(home, kind="stable")]]
    return np.concatenate([odd[:head], blocks.ravel(), odd[head:]])


class _Queues:
    """Queues of clusters by size, shuffled inside their windows."""

    def __init__(
        self, partition: Partition, near: np.ndarray, starts: np.ndarray, size: int, generator: np.random.Generator
    ) -> None:
        rows, sizes = partition.rows, partition.sizes
        mixed = generator.permutation(len(sizes))
        home = near[np.searchsorted(starts, rows[partition.begins[:-1][mixed]], side="right") - 1]
        mixed = mixed[np.argsort(home, kind="stable")]
        self.size, self.waiting = size, {}  # size of a cluster -> (clusters, size) rows
        for own in np.unique(sizes).tolist():
            begins = partition.begins[:-1][mixed[sizes[mixed] == own]]
            self.waiting[own] = rows[begins[:, None] + np.arange(own)]

    def take(self, own: int, clusters: int) -> np.ndarray:
        """(clusters, own) rows."""
        taken, self.waiting[own] = self.waiting[own][:clusters], self.waiting[own][clusters:]
        return taken

    def left(self, own: int) -> int:
        return len(self.waiting[own]) if own in self.waiting else 0

    def singles(self, count: int) -> np.ndarray:
        """(count,) rows of clusters of size 1; splits the smallest clusters if there are not enough."""
        while self.left(1) < count:
            self.break_smallest()
        return self.take(1, count)[:, 0] if count else np.empty(0, np.int32)

    def break_smallest(self) -> None:
        smallest = min(own for own in self.waiting if own > 1 and self.left(own))
        rows = self.take(smallest, 1).T  # (smallest, 1)
        self.waiting[1] = np.concatenate([self.waiting[1], rows]) if 1 in self.waiting else rows

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield (n, K) blocks until no row is left: largest clusters first, filled by the largest that fit."""
        while (pattern := self._pattern()) is not None:
            often = min(self.left(own) // times for own, times in pattern.items())
            yield np.concatenate(
                [self.take(own, often * times).reshape(often, -1) for own, times in pattern.items()], 1
            )

    def _pattern(self) -> dict[int, int] | None:
        """Cluster sizes that add up to K, with their multiplicity; None if no row is left."""
        while sizes := sorted((own for own in self.waiting if self.left(own)), reverse=True):
            pattern, room = {}, self.size
            for own in sizes:
                if times := min(self.left(own), room // own):
                    pattern[own] = times
                    room -= times * own
            if not room:
                return pattern
            self.break_smallest()
        return None
