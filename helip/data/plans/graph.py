"""Graph batches (B3, arXiv 2505.11293): batches of whole clusters of mutual hard pairs; all rows are targets.

    cand(i) = ranks skip .. skip + m of i's list;  an edge joins i and j if each is in the other's cand
    clusters of at most K rows;  a batch is B / K clusters, reshuffled each epoch;  every row once an epoch

Legend: N rows, n valid rows, m = topk, K rows of a cluster, B pairs of a step.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from helip.artifacts.atomic import digest
from helip.artifacts.hard_pairs import BLOCK, HardPairIndex
from helip.artifacts.partitions import Partition
from helip.data.order import keep_two
from helip.data.plans.clusters import grow_clusters
from helip.data.plans.contract import PlanData, Slot, Visit
from helip.data.plans.deal import deal
from helip.data.plans.neighbours import mutual_neighbours
from helip.data.plans.placebo import Placebo
from helip.data.schedules import Schedule, Uniform
from helip.errors import HelipError
from helip.ranks import artefact_lock, barrier, global_rank

REPLACED = 34  # a stream of random numbers
ALGORITHM = 1  # version of the clustering; part of the name of a partition


@dataclass(frozen=True)
class GraphSettings:
    """The settings of clusters (conf/plan/graph.yaml).

    Attributes:
        topk: m, hard pairs of each row that may become edges.
        cluster: K, maximum number of rows of a cluster.
        skip_first: number of hardest rows of each list that are left out, by the mining or here.
        placebo: use the row-permuted index, as a control.
        p, schedule: of helip.plan=partners; only the defaults are allowed.
    """

    topk: int
    cluster: int = 8
    skip_first: int = 0
    placebo: bool = False
    p: int = 1
    schedule: Schedule = field(default_factory=Uniform)
    mines: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        for name, least in (("topk", 1), ("cluster", 2), ("skip_first", 0)):
            if (value := getattr(self, name)) < least:
                raise HelipError(f"helip.{name}={value} must be at least {least} for helip.plan=graph")
        for name, changed in (("p", self.p != 1), ("schedule", not isinstance(self.schedule, Uniform))):
            if changed:
                raise HelipError(f"helip.{name} says how partners are drawn, which needs helip.plan=partners")

    def bind(self, data: PlanData) -> "GraphPlan":
        """Raises HelipError if the batch does not hold whole clusters, or the index is too shallow or has no edge."""
        if data.hard is None:
            raise HelipError(
                "helip.plan=graph needs mined hard pairs: set helip.score=joint, image or text, or helip.plan=partners"
            )
        self.check(data.batch_size)
        if data.batch_size > (rows := int(data.valid.sum())):
            raise HelipError(f"data.batch_size={data.batch_size} is more than the {rows:,} usable rows: lower it")
        if data.weights is not None:
            raise HelipError(
                "helip.plan=graph visits every row once an epoch: set dataset.weights=[] or helip.plan=partners"
            )
        lists = rank_window(data.hard, self.skip_first, self.topk)
        partition = self._partition(data, lists)
        data.console.print(
            f"graph: {len(partition.sizes):,} clusters of at most {self.cluster} rows; a row has "
            f"{partition.meta['inside']:.2f} of its {partition.meta['degree']:.1f} mutual neighbours in its own"
        )
        hard: Any = lists
        if self.placebo:
            placebo = Placebo(data.valid, data.seed)
            partition = Partition(placebo.plays[partition.rows], partition.begins, partition.meta)
            hard = placebo.rows(lists)
        return GraphPlan(partition, hard, data, self.cluster)

    def check(self, batch_size: int) -> None:
        """Raises HelipError if the batch does not hold whole clusters."""
        if self.cluster > batch_size:
            raise HelipError(
                f"helip.cluster={self.cluster} is more than data.batch_size={batch_size}: lower helip.cluster"
            )
        if batch_size % self.cluster:
            raise HelipError(
                f"data.batch_size={batch_size} does not divide into clusters: make it a multiple of "
                f"helip.cluster={self.cluster}"
            )

    def _partition(self, data: PlanData, lists: np.ndarray) -> Partition:
        """The partition of these lists from disk, or made by rank 0."""
        if data.folder is None:
            return make_partition(lists, data.valid, self.cluster)
        name = digest([content(lists), content(data.valid), self.cluster, ALGORITHM])
        folder = data.folder / f"graph-{name}"
        with artefact_lock(folder, data.console):
            if global_rank() == 0 and not (folder / "meta.json").exists():
                make_partition(lists, data.valid, self.cluster).save(folder)
            barrier()
        return Partition.load(folder)


def rank_window(hard: HardPairIndex, skip: int, topk: int) -> np.ndarray:
    """(N, topk) int32 view of the ranks skip .. skip + topk, where the ranks that the mining left out count.

    Raises:
        HelipError: the index does not store them.
    """
    skipped = int(hard.meta.get("settings", {}).get("skip_first", 0))
    if skip < skipped or skip + topk > skipped + hard.depth:
        raise HelipError(
            f"helip.skip_first={skip} with helip.topk={topk} needs the ranks {skip} to {skip + topk} of each row, but "
            f"the hard-pair index stores {skipped} to {skipped + hard.depth}: mine with search.depth={topk}, or lower "
            "helip.topk"
        )
    return hard.rows[:, skip - skipped : skip - skipped + topk]


def make_partition(lists: np.ndarray, valid: np.ndarray, size: int) -> Partition:
    """Clusters of at most K = `size` mutual neighbours.

    Args:
        lists: (N, m) int32, -1 padded.
        valid: (N,) bool, the rows to be clustered.

    Raises:
        HelipError: no two rows list each other.
    """
    graph = mutual_neighbours(lists, valid)
    if not len(graph.rows):
        raise HelipError(
            f"helip.plan=graph: no two of the {int(valid.sum()):,} rows are among each other's {lists.shape[1]} hard "
            "pairs: raise helip.topk, or set helip.plan=partners"
        )
    rows, begins = grow_clusters(graph, valid, size)
    partition = Partition(rows, begins, {"cluster": size, "topk": lists.shape[1], "algorithm": ALGORITHM})
    inside = graph.inside(partition.labels(len(valid)))
    degree = len(graph.rows) / len(rows)
    return Partition(rows, begins, partition.meta | {"inside": inside, "degree": degree})


def content(array: np.ndarray) -> str:
    """SHA-256 of an array's values, in blocks because the array may exceed memory."""
    found = hashlib.sha256(str(array.shape).encode())
    for start in range(0, len(array), BLOCK):
        found.update(np.ascontiguousarray(array[start : start + BLOCK]).data)
    return found.hexdigest()


class GraphPlan:
    """Every row is a target without partners; its hard pairs are other targets of the batch.

    Args:
        partition: of the valid rows, into clusters of at most K = `size`.
        lists: (N, m) hard pairs of each row, or an object that returns a line per row.
    """

    unit = 1
    scattered = True

    def __init__(self, partition: Partition, lists: Any, data: PlanData, size: int) -> None:
        self.partition, self.lists, self.size = partition, lists, size
        self.batch_size, self.seed, self.window, self.starts = data.batch_size, data.seed, data.window, data.starts
        self.eligible, self.length = data.valid, len(partition.rows)
        self._deals: OrderedDict[int, np.ndarray] = OrderedDict()

    def target(self, step: int, index: int, attempt: int = 0) -> Visit:
        epoch, within = divmod(step * self.batch_size + index, self.length)
        if attempt:  # a random row, because the next one is in the batch already
            generator = np.random.default_rng([self.seed, REPLACED, epoch, within, attempt])
            return Visit(epoch, int(self.partition.rows[generator.integers(self.length)]))
        return Visit(epoch, int(self._deal(epoch)[within]))

    def beside(self, visit: Visit, attempt: int = 0, progress: float = 0.0) -> list[Slot]:
        return []

    def mined(self, row: int) -> np.ndarray:
        return np.sort(np.asarray(self.lists[row]).astype(np.int64))

    def _deal(self, epoch: int) -> np.ndarray:
        """(n,) int32 rows of an epoch."""
        if epoch not in self._deals:
            rows = deal(self.partition, self.starts, self.batch_size, self.size, self.window, self.seed, epoch)
            keep_two(self._deals, epoch, rows)
        return self._deals[epoch]
