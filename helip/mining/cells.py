# pyright: strict, reportUnknownMemberType=false
"""Rows grouped into cells of similar pairs: the inverted file of the approximate search.

faiss clusters a sample of the concatenated vectors [a; b]. Their inner product is the sum of both cosines, which orders
pairs nearly as the product does. Rows are then sorted by cell, so that a cell is a contiguous block, and one matrix
product compares all targets of a cell with all members of the nearest cells. faiss's own scan of an inverted file takes
one query at a time.

Some rows fit no cell, such as an image of one cluster with a caption of another. With 1.3 % of such strays, recall 0.99
needed 4 cells where strays were compared with all rows, and 74 where they were not (clustered synthetic pairs). So the
rows farthest from their centre are compared with all rows; their number is chosen together with the number of cells.

Legend: N rows, M valid ones, n cells, d width of the clustered vectors.
"""

from dataclasses import dataclass, replace

import faiss
import numpy as np
import torch

from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs
from helip.mining.workers import Workers

SAMPLE = 24  # training rows per cell
ROUNDS = 6  # of faiss's k-means on the narrow vectors
NARROW = 96  # dimensions of a random projection for k-means: centres as good, and 8 times as fast as 768
REFINED = 3  # rounds at full width after it; with 1 round, 2,000 clusters in 1,788 cells needed 180 times the work
CHUNK = 4096  # rows assigned at once by one thread, whatever the number of threads: the same cells on any machine
NEAR = 1024  # nearest cells that are stored


@dataclass(frozen=True)
class Cells:
    """The cell of each row, as a candidate and as a target.

    Attributes:
        order: (M,) int64 candidates, cell by cell, rising within a cell.
        starts: (n + 1,) int64 place of each cell's first row in `order`.
        near: (n, min(n, NEAR)) int32 cells from near to far; a cell's nearest is itself.
        targets: (N,) int64 rows in the order of the search: cell by cell without strays, then the strays, then rows
            that are not valid.
        target_starts: (n + 2,) int64 place in `targets` of each cell's first row, of the first stray, and of the first
            invalid row.
        fit: (M,) float32 similarity of the rows of `order` to the centre of their cell.
    """

    order: np.ndarray
    starts: np.ndarray
    near: np.ndarray
    targets: np.ndarray
    target_starts: np.ndarray
    fit: np.ndarray

    def members(self, cell: int, probes: int) -> np.ndarray:
        """(C,) int64 places in `order` of all rows of a cell's `probes` nearest cells, its own first."""
        near = self.near[cell, :probes]
        return np.concatenate([np.arange(int(self.starts[c]), int(self.starts[c + 1])) for c in near])

    def cell_of(self, rows: int) -> np.ndarray:
        """(N,) int64 cell of each of N rows as a candidate; n where it has none."""
        cell = np.full(rows, len(self.starts) - 1)
        cell[self.order] = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        return cell

    def fit_rank(self) -> np.ndarray:
        """(M,) int64 rank of each row of `order` by its fit, from the worst."""
        rank = np.empty(len(self.order), np.int64)
        rank[np.argsort(self.fit, kind="stable")] = np.arange(len(self.order))
        return rank

    def with_strays(self, count: int) -> "Cells":
        """The same cells; the `count` targets that fit worst are strays."""
        stray = self.fit_rank() < count
        work, ends = self.order[~stray], np.concatenate([[0], np.cumsum(~stray)])[self.starts]
        invalid = self.targets[self.target_starts[-1] :]
        targets = np.concatenate([work, np.sort(self.order[stray]), invalid])
        return replace(self, targets=targets, target_starts=np.append(ends, len(self.order)))


def vectors_of(pairs: Pairs, rows: np.ndarray | slice, settings: SearchSettings) -> np.ndarray:
    """(R, d) float32: [a; b], or the one modality that enters the score."""
    parts = [v.unit(rows) for v, arm in ((pairs.image, "text"), (pairs.text, "image")) if settings.score != arm]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def build_cells(pairs: Pairs, settings: SearchSettings, size: float, device: str = "cpu") -> Cells:
    """Cluster into size * sqrt(M) cells, assign and sort; depends only on embeddings, score, size and seed."""
    valid = np.flatnonzero(pairs.valid)
    count = max(1, min(len(valid) // 8, int(size * len(valid) ** 0.5)))
    centres = _centres(pairs, valid, count, settings, device)
    cell, similar = _assign(pairs, valid, centres, settings)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(count + 1))
    targets = np.concatenate([valid[order], np.flatnonzero(~pairs.valid)])
    return Cells(valid[order], starts, _near(centres), targets, np.append(starts, len(valid)), similar[order])


def _centres(pairs: Pairs, valid: np.ndarray, count: int, settings: SearchSettings, device: str) -> np.ndarray:
    """(n, d) float32 centres of length 1."""
    rng = np.random.default_rng(settings.seed)
    sample = np.sort(rng.choice(valid, min(len(valid), SAMPLE * count), replace=False))
    on_gpu = device != "cpu" and faiss.get_num_gpus() > 0  # the CPU build answers 0
    vectors = torch.from_numpy(vectors_of(pairs, sample, settings))
    narrow = vectors.numpy()
    if vectors.shape[1] > NARROW:
        normal = np.random.default_rng(settings.seed).standard_normal((vectors.shape[1], NARROW))
        narrow = (vectors @ torch.from_numpy(np.linalg.qr(normal)[0]).float()).numpy()
    means = faiss.Kmeans(
        narrow.shape[1],
        count,
        niter=ROUNDS,
        seed=settings.seed + 1,  # 0 makes faiss take a seed from the clock
        spherical=True,
        gpu=on_gpu,
        min_points_per_centroid=1,
        max_points_per_centroid=SAMPLE,
    )
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # the same centres for any number of ranks and threads
    means.train(narrow)
    faiss.omp_set_num_threads(threads)
    assert means.centroids is not None
    table, some = torch.from_numpy(means.centroids), torch.from_numpy(narrow)
    for _ in range(REFINED):
        cell = torch.from_numpy(_nearest(some, table)[0])
        total = torch.zeros(count, vectors.shape[1]).index_add_(0, cell, vectors)
        table, some = torch.nn.functional.normalize(total, dim=1), vectors
    return table.numpy()


def _nearest(vectors: torch.Tensor, centres: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(R,) int32 nearest of the (n, d) centres to each of (R, d) vectors, and (R,) float32 similarity, in bfloat16."""
    table = centres.bfloat16().T.contiguous()
    best, near = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float32)
    chunk = max(64, min(CHUNK, (1 << 24) // len(centres)))
    for start in range(0, len(vectors), chunk):
        scores = (vectors[start : start + chunk].bfloat16() @ table).float().numpy()
        part = slice(start, start + len(scores))
        best[part] = scores.argmax(axis=1)  # numpy's is six times as fast as torch's
        near[part] = scores[np.arange(len(scores)), best[part]]
    return best, near


def _assign(
    pairs: Pairs, valid: np.ndarray, centres: np.ndarray, settings: SearchSettings
) -> tuple[np.ndarray, np.ndarray]:
    """(M,) int32 nearest centre of each valid row, and (M,) float32 similarity to it."""
    table = torch.from_numpy(centres)
    workers = Workers()

    def nearest(start: int) -> tuple[np.ndarray, np.ndarray]:
        workers.check()
        rows = valid[start : start + CHUNK]
        adjacent = rows[-1] - rows[0] == len(rows) - 1
        some = slice(int(rows[0]), int(rows[-1]) + 1) if adjacent else rows  # a slice is read twice as fast
        return _nearest(torch.from_numpy(vectors_of(pairs, some, settings)), table)

    cells, similars = zip(*workers.map(nearest, range(0, len(valid), CHUNK)), strict=True)
    return np.concatenate(cells), np.concatenate(similars)


def _near(centres: np.ndarray) -> np.ndarray:
    """(n, min(n, NEAR)) int32 cells from near to far."""
    keep = min(len(centres), NEAR)
    near = np.empty((len(centres), keep), np.int32)
    for start in range(0, len(centres), CHUNK):
        part = slice(start, min(start + CHUNK, len(centres)))
        similar = centres[part] @ centres.T
        similar[np.arange(len(similar)), np.arange(part.start, part.stop)] = np.inf  # itself first
        near[part] = np.argsort(-similar, axis=1, kind="stable")[:, :keep]
    return near
