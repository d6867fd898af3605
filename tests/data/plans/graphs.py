"""Lists of hard pairs for the tests of plans, and reference implementations."""

import numpy as np

from helip.artifacts.hard_pairs import HardPairIndex
from helip.data.plans.contract import PlanData


def topics(count: int, of: int, m: int, seed: int = 0) -> np.ndarray:
    """(count, m) lists: first the other rows of the row's topic of `of` rows, mixed, then any others."""
    generator = np.random.default_rng(seed)
    topic = generator.permutation(count) // of
    lists = np.full((count, m), -1, np.int32)
    for row in range(count):
        near = generator.permutation(np.flatnonzero(topic == topic[row]))
        far = generator.permutation(np.flatnonzero(topic != topic[row]))
        lists[row] = np.concatenate([near[near != row], far])[:m]
    return lists


def index_of(lists: np.ndarray, skip: int | None = None) -> HardPairIndex:
    scores = np.where(lists >= 0, 1 / (1 + np.arange(lists.shape[1])), 0).astype(np.float32)
    meta = {} if skip is None else {"settings": {"skip_first": skip}}
    return HardPairIndex(lists.astype(np.int32), scores, scores, scores, meta)


def data_of(lists: np.ndarray | None, batch_size: int, valid: np.ndarray | None = None, **settings) -> PlanData:
    """Shards of ten rows."""
    count = len(lists) if lists is not None else 40
    hard = None if lists is None else index_of(lists, settings.pop("skip", None))
    starts = np.array([*range(0, count, 10), count])
    return PlanData(np.ones(count, bool) if valid is None else valid, starts, batch_size, hard=hard, **settings)


def mutual_reference(lists: np.ndarray, valid: np.ndarray) -> list[set[int]]:
    """The neighbours of each row, by the definition."""
    near = [{int(j) for j in line if j >= 0 and valid[j]} if valid[i] else set() for i, line in enumerate(lists)]
    return [{j for j in near[i] if j != i and i in near[j]} for i in range(len(lists))]


def clusters_reference(near: list[set[int]], valid: np.ndarray, size: int) -> list[list[int]]:
    """The greedy growth by the definition, which searches all rows for every decision.

    Seeds: fewest free neighbours to a power of two; of those, the row that reached that level first.
    """
    free = {int(row) for row in np.flatnonzero(valid)}

    def open_(row: int) -> int:
        return len(near[row] & free)

    since = {row: (open_(row).bit_length(), 0, row) for row in free}  # level, when it was reached, order
    clusters, clock = [], 0
    while free:
        cluster = [min(free, key=lambda row: since[row])]
        while True:
            row = cluster[-1]
            free.discard(row)
            clock += 1
            for other in sorted(near[row] & free):
                if open_(other).bit_length() < since[other][0]:
                    since[other] = (open_(other).bit_length(), clock, other)
            beside = {other for member in cluster for other in near[member]} & free
            if len(cluster) == size or not beside:
                break
            cluster.append(min(beside, key=lambda row: (-len(near[row] & set(cluster)), open_(row), row)))
        clusters.append(cluster)
    return clusters
