"""faiss clusters on the GPU if its build and the device have one, else on the CPU."""

import faiss
import numpy as np
import pytest

from helip.mining.cells import build_cells
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs

ROWS, WIDTH = 400, 12


@pytest.mark.parametrize(
    ("device", "gpus", "expected"), [("cuda:0", 1, True), ("cuda:0", 0, False), ("cpu", 1, False), ("cpu", 0, False)]
)
def test_the_clustering_runs_on_the_gpu_of_a_gpu_build(monkeypatch, device: str, gpus: int, expected: bool) -> None:
    """A fake of faiss's k-means records its argument and clusters on the CPU."""
    asked = []

    def kmeans(width: int, count: int, **settings: object):
        asked.append(settings.pop("gpu"))
        return real(width, count, **settings)

    real = faiss.Kmeans
    monkeypatch.setattr(faiss, "Kmeans", kmeans)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus)
    rng = np.random.default_rng(0)
    image, text = (rng.standard_normal((ROWS, WIDTH)).astype(np.float32) for _ in range(2))
    pairs = open_pairs(image, text)
    cells = build_cells(pairs, SearchSettings(), 1.0, device)
    assert asked == [expected]
    assert sorted(cells.order.tolist()) == list(range(ROWS)) and len(cells.starts) == 21
