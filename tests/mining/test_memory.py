"""Sizes follow from the memory of a device; where they are too large, a block is processed in halves."""

import numpy as np
import pytest
import torch

from benchmarks.synthetic import clustered
from helip.mining import bounds, sweep
from helip.mining.bounds import RowSource
from helip.mining.exact import ExactSearch
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from helip.mining.workers import FEEDERS
from tests.mining.results import assert_same
from tests.pretend import pretend_gpu

GPU = torch.device("cuda")


@pytest.mark.parametrize("gib", [1, 6, 24, 80])
def test_blocks_of_all_feeders_take_half_of_the_free_memory(monkeypatch, gib: int):
    monkeypatch.setattr(sweep, "free_memory", lambda device: gib << 30)
    shape = sweep.shape_on(GPU)
    plain, fused = shape.pairs * sweep.PLAIN_BYTES, shape.targets * sweep.FUSED_BYTES
    assert FEEDERS * max(plain, fused) <= gib << 29
    assert shape.pairs >= sweep.LEAST_STEP * shape.first and shape.targets >= 512
    if gib == 80:
        assert (shape.targets, shape.candidates) == (sweep.GPU_STEP, sweep.GPU_BLOCK)


def test_blocks_double_from_the_first_on():
    parts = sweep.cuts(100_000, SearchSettings(depth=10), 32768, 4096)
    sizes = [part.stop - part.start for part in parts]
    assert sizes == [4096, 4096, 8192, 16384, 32768, 32768, 1696] and parts[-1].stop == 100_000
    deep = sweep.cuts(5000, SearchSettings(depth=301), 1024, 64)
    assert all(part.start % 32 == 0 for part in deep) and deep[0].stop >= 4 * 301


def test_where_memory_is_short_a_block_is_met_in_halves(monkeypatch):
    image, text = clustered(900, 24, 16, seed=1)
    pairs, settings = open_pairs(image, text), SearchSettings(depth=10)
    plain = ExactSearch(pairs, settings, dtype=torch.float32).search(range(900))
    met: list[int] = []
    whole = sweep.Sweep.by_products

    def limited(self, part, block):
        size = (part.stop - part.start) * len(block.rows)
        if size > 130 * 900:
            raise torch.OutOfMemoryError("a fake limit")
        met.append(size)
        whole(self, part, block)

    monkeypatch.setattr(sweep.Sweep, "by_products", limited)
    search = ExactSearch(pairs, settings, dtype=torch.float32)
    found = search.search(range(900))
    assert len(met) > 4 and sum(met) == 900 * 900
    assert_same(plain, found)
    monkeypatch.setattr(sweep.Sweep, "by_products", lambda self, part, block: limited(self, part, fail))
    with pytest.raises(torch.OutOfMemoryError):
        search.search(range(900))


class fail:  # a block that never fits
    rows = range(10**9)


@pytest.mark.parametrize("host", [0, 1 << 40])
def test_rows_that_do_not_fit_the_card_are_rounded_once(monkeypatch, tmp_path, host: int):
    """A card without free memory: blocks come from pinned memory, or from a file where the host has too little too."""
    image, text = clustered(1100, 64, 70, seed=2)
    pairs = open_pairs(image, text)
    plain = RowSource(pairs, torch.float16, 1 << 30, torch.device("cpu"))
    monkeypatch.setattr(bounds, "host_memory", lambda: host)
    pinned: list[bool] = []
    empty = torch.empty

    def counting(*sizes, pin_memory=False, **more):
        pinned.append(pin_memory)
        return empty(*sizes, **more)

    monkeypatch.setattr(torch, "empty", counting)
    with pretend_gpu(monkeypatch, memory=0):
        source = RowSource(pairs, torch.float16, 0, torch.device("cuda"), scratch=tmp_path)
        assert not source.kept and any(pinned) == (host > 0)
        monkeypatch.setattr(bounds, "round_rows", None)  # not called again
        for places in (slice(100, 700), np.array([5, 3, 999])):
            for ours, theirs in zip(source.rows(places, 64), plain.rows(places, 64), strict=True):
                width = min(ours.values.shape[1], theirs.values.shape[1])
                assert torch.equal(ours.values.cpu()[:, :width], theirs.values[:, :width])
                assert torch.equal(ours.error.cpu(), theirs.error)
            assert source.worst(places) == plain.worst(places)
