"""Rows grouped into cells of similar pairs: the inverted file of the approximate search.

faiss clusters a sample of the concatenated vectors [a; b], whose inner product is the sum of both cosines and lists
pairs in nearly the order of their product. Rows are then sorted by cell, so that a cell is a contiguous block: all
targets of a cell meet all members of the nearest cells in one matrix product. faiss's own scan of an inverted file
takes one query at a time.

Some rows fit no cell, such as the image of one cluster with a caption of another. Where 1 % of the rows were such
strays, they were half of all that was missed (clustered synthetic pairs: recall 0.9943 without their own search, 0.9971
with it). So the few rows farthest from their centre meet everyone.

Legend: N rows, M valid ones, n cells, d width of the clustered vectors.
"""

from dataclasses import dataclass

import faiss
import numpy as np
import torch

from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs
from helip.mining.workers import Workers

SAMPLE = 24  # training rows per cell; 32 and 6 rounds took 1.9 times as long and needed as many cells
ROUNDS = 4  # of k-means
CHUNK = 4096  # rows assigned at once by one thread, whatever the number of threads: the same cells on any machine
STRAYS = 0.005  # share of rows, the farthest from their centre, that are searched exactly; at most 2 / sqrt(M)
NEAR = 1024  # nearest cells that are remembered


@dataclass(frozen=True)
class Cells:
    """Which row is where.

    Attributes:
        order: (M,) int64 candidates, cell by cell, rising within a cell.
        starts: (n + 1,) int64 place of each cell's first row in `order`.
        near: (n, min(n, NEAR)) int32 cells from near to far; a cell's nearest is itself.
        targets: (N,) int64 rows in the order of the work: cell by cell without strays, then the strays, then rows that
            are not valid.
        target_starts: (n + 2,) int64 place in `targets` of each cell's first row, of the first stray, of the first
            invalid row.
    """

    order: np.ndarray
    starts: np.ndarray
    near: np.ndarray
    targets: np.ndarray
    target_starts: np.ndarray

    def members(self, cell: int, probes: int) -> np.ndarray:
        """(C,) int64 places in `order` of all rows of a cell's `probes` nearest cells, its own first."""
        near = self.near[cell, :probes]
        return np.concatenate([np.arange(int(self.starts[c]), int(self.starts[c + 1])) for c in near])

    def cell_of(self, rows: int) -> np.ndarray:
        """(N,) int64 cell of each of N rows as a candidate; n where it has none."""
        cell = np.full(rows, len(self.starts) - 1)
        cell[self.order] = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        return cell

    def is_stray(self) -> np.ndarray:
        """(N,) bool."""
        stray = np.zeros(len(self.targets), bool)
        stray[self.targets[self.target_starts[-2] : self.target_starts[-1]]] = True
        return stray


def cell_count(rows: int) -> int:
    """n for M: sqrt(M). Up to twice as many cost 10 % more at M = 200,000 and hardly miss less on real pairs."""
    return max(1, min(rows // 8, int(rows**0.5)))


def vectors_of(pairs: Pairs, rows: np.ndarray | slice, settings: SearchSettings) -> np.ndarray:
    """(R, d) float32: [a; b], or the one modality that the score is made of."""
    parts = [v.unit(rows) for v, arm in ((pairs.image, "text"), (pairs.text, "image")) if settings.score != arm]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def build_cells(pairs: Pairs, settings: SearchSettings, device: str = "cpu") -> Cells:
    """Cluster, assign and sort; the result depends on the embeddings, the score and the seed alone."""
    valid = np.flatnonzero(pairs.valid)
    count = cell_count(len(valid))
    centres = _centres(pairs, valid, count, settings, device)
    cell, similar = _assign(pairs, valid, centres, settings)
    order = np.argsort(cell, kind="stable")
    strays = np.zeros(len(valid), bool)
    strays[np.argsort(similar, kind="stable")[: int(min(STRAYS, 2 / len(valid) ** 0.5) * len(valid))]] = True
    work = order[~strays[order]]
    starts = np.searchsorted(cell[order], np.arange(count + 1))
    work_starts = np.append(np.searchsorted(cell[work], np.arange(count + 1)), len(valid))
    targets = np.concatenate([valid[work], valid[strays], np.flatnonzero(~pairs.valid)])
    return Cells(valid[order], starts, _near(centres), targets, work_starts)


def _centres(pairs: Pairs, valid: np.ndarray, count: int, settings: SearchSettings, device: str) -> np.ndarray:
    """(n, d) float32."""
    rng = np.random.default_rng(settings.seed)
    sample = np.sort(rng.choice(valid, min(len(valid), SAMPLE * count), replace=False))
    vectors = vectors_of(pairs, sample, settings)
    on_gpu = device != "cpu" and faiss.get_num_gpus() > 0  # the CPU build answers 0
    means = faiss.Kmeans(
        vectors.shape[1],
        count,
        niter=ROUNDS,
        seed=settings.seed + 1,  # faiss takes 0 for "from the clock"
        spherical=True,
        gpu=on_gpu,
        min_points_per_centroid=1,
        max_points_per_centroid=SAMPLE,
    )
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # the same centres for any number of ranks and threads
    means.train(vectors)
    faiss.omp_set_num_threads(threads)
    assert means.centroids is not None
    return means.centroids


def _assign(
    pairs: Pairs, valid: np.ndarray, centres: np.ndarray, settings: SearchSettings
) -> tuple[np.ndarray, np.ndarray]:
    """(M,) int32 nearest centre of each valid row, and (M,) float32 how near it is."""
    table = torch.from_numpy(centres).bfloat16().T.contiguous()
    chunk = max(64, min(CHUNK, (1 << 24) // len(centres)))
    workers = Workers()

    def nearest(start: int) -> tuple[np.ndarray, np.ndarray]:
        workers.check()
        rows = valid[start : start + chunk]
        adjacent = rows[-1] - rows[0] == len(rows) - 1
        some = slice(int(rows[0]), int(rows[-1]) + 1) if adjacent else rows  # a slice is read twice as fast
        similar = torch.from_numpy(vectors_of(pairs, some, settings)).bfloat16() @ table
        scores = similar.float().numpy()
        best = scores.argmax(axis=1)  # six times as fast as torch's
        return best.astype(np.int32), scores[np.arange(len(best)), best]

    cells, similars = zip(*workers.map(nearest, range(0, len(valid), chunk)), strict=True)
    return np.concatenate(cells), np.concatenate(similars)


def _near(centres: np.ndarray) -> np.ndarray:
    """(n, min(n, NEAR)) int32."""
    keep = min(len(centres), NEAR)
    near = np.empty((len(centres), keep), np.int32)
    for start in range(0, len(centres), CHUNK):
        part = slice(start, min(start + CHUNK, len(centres)))
        similar = centres[part] @ centres.T
        similar[np.arange(len(similar)), np.arange(part.start, part.stop)] = np.inf  # itself first
        near[part] = np.argsort(-similar, axis=1, kind="stable")[:, :keep]
    return near
