"""Rows grouped into cells of similar pairs: the inverted file of the approximate search.

faiss clusters a sample of the concatenated vectors [a; b], whose inner product is the sum of both cosines and lists
pairs in nearly the order of their product. Rows are then sorted by cell, so that a cell is a contiguous block: all
targets of a cell meet all members of the nearest cells in one matrix product. faiss's own scan of an inverted file
takes one query at a time.

Legend: N rows, M valid ones, n cells, d width of the clustered vectors.
"""

from dataclasses import dataclass

import faiss
import numpy as np
import torch

from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs
from helip.mining.workers import Workers

SAMPLE = 32  # training rows per cell; faiss warns below 39, and 64 changed the recall of the same cost by under 0.001
ROUNDS = 6  # of k-means
CHUNK = 4096  # rows assigned at once by one thread, whatever the number of threads: the same cells on any machine
NEAR = 1024  # nearest cells that are remembered


@dataclass(frozen=True)
class Cells:
    """Which row is where.

    Attributes:
        order: (N,) int64 rows, cell by cell, rising within a cell; rows that are not valid come last.
        starts: (n + 1,) int64 place of each cell's first row in `order`; the last is M.
        near: (n, min(n, NEAR)) int32 cells from near to far; a cell's nearest is itself.
    """

    order: np.ndarray
    starts: np.ndarray
    near: np.ndarray

    def members(self, cell: int, probes: int) -> np.ndarray:
        """(C,) int64 places in `order` of all rows of a cell's `probes` nearest cells, its own first."""
        near = self.near[cell, :probes]
        return np.concatenate([np.arange(int(self.starts[c]), int(self.starts[c + 1])) for c in near])


def cell_count(rows: int) -> int:
    """n for M: finding the cells and scanning some of them then cost about the same."""
    return max(1, min(rows // 8, int(2 * rows**0.5)))


def vectors_of(pairs: Pairs, rows: np.ndarray, settings: SearchSettings) -> np.ndarray:
    """(R, d) float32: [a; b], or the one modality that the score is made of."""
    parts = [v.unit(rows) for v, arm in ((pairs.image, "text"), (pairs.text, "image")) if settings.score != arm]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def build_cells(pairs: Pairs, settings: SearchSettings, device: str = "cpu") -> Cells:
    """Cluster, assign and sort; the result depends on the embeddings, the score and the seed alone."""
    valid = np.flatnonzero(pairs.valid)
    count = cell_count(len(valid))
    centres = _centres(pairs, valid, count, settings, device)
    cell = _assign(pairs, valid, centres, settings)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(count + 1))
    rest = np.flatnonzero(~pairs.valid)
    return Cells(np.concatenate([valid[order], rest]).astype(np.int64), starts.astype(np.int64), _near(centres))


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
    means.train(vectors)
    assert means.centroids is not None
    return means.centroids


def _assign(pairs: Pairs, valid: np.ndarray, centres: np.ndarray, settings: SearchSettings) -> np.ndarray:
    """(M,) int32 nearest centre of each valid row."""
    table = torch.from_numpy(centres).bfloat16().T.contiguous()
    chunk = max(64, min(CHUNK, (1 << 24) // len(centres)))
    workers = Workers()

    def nearest(start: int) -> np.ndarray:
        workers.check()
        vectors = torch.from_numpy(vectors_of(pairs, valid[start : start + chunk], settings))
        return (vectors.bfloat16() @ table).argmax(dim=1).int().numpy()

    return np.concatenate(workers.map(nearest, range(0, len(valid), chunk)))


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
