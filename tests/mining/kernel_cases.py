"""The fused kernel against the matrices that it replaces; run by test_kernels with TRITON_INTERPRET=1."""

import numpy as np
import pytest
import torch

from benchmarks.synthetic import clustered
from helip.mining import kernels
from helip.mining.bulk import BulkSource, as_targets
from helip.mining.exact import ExactSearch
from helip.mining.settings import Rules, SearchSettings
from helip.mining.vectors import open_pairs

SMALL = {"BM": 16, "BN": 32, "BK": 32, "GROUP": 2}


def rounded(count, seed, dtype):
    image, text = clustered(count, 40, 70, seed=seed)  # widths that leave a last, partial block of columns
    pairs = open_pairs(image, text)
    block = BulkSource(pairs, dtype, 1 << 30, torch.device("cpu")).rows(slice(None))
    image_side, text_side = (as_targets(side, v.width)[0] for side, v in zip(block, pairs.modalities, strict=True))
    return (image_side, text_side), (block[0].values, block[1].values)


@pytest.mark.parametrize("score", [0, 1, 2])
@pytest.mark.parametrize("low", [0.0, 0.5])
def test_kernel_keeps_what_plain_matrices_keep(score, low):
    own, candidates = rounded(110, 1, torch.float16)
    own = own[0][:37], own[1][:37]
    place = torch.arange(37, dtype=torch.int32) + 5
    place[3] = -1
    x, y = (a.float() @ b.float().T for a, b in zip(own, candidates, strict=True))
    plain = (x * y, x, y)[score]
    plain = torch.where(((x > low) | (score == 2)) & ((y > low) | (score == 1)), plain, 0)
    threshold = plain.quantile(0.8, dim=1)
    threshold[7] = float("inf")
    alive = (plain > 0) & (plain >= threshold[:, None] * (1 + 1e-6))
    alive[torch.arange(37)[place >= 0], place[place >= 0].long()] = False
    target, column, found_x, found_y, counts = kernels.fused_survivors(
        own, candidates, threshold * (1 + 1e-6), Rules(score, low, low), place, 110, SMALL
    )
    assert counts.tolist() == alive.sum(1).tolist()
    assert sorted(zip(target.tolist(), column.tolist(), strict=True)) == [tuple(p) for p in alive.nonzero().tolist()]
    np.testing.assert_allclose(found_x, x[target, column], atol=1e-5)
    np.testing.assert_allclose(found_y, y[target, column], atol=1e-5)


def test_survivors_beyond_the_room_are_counted_and_not_written():
    own, candidates = rounded(64, 2, torch.float32)
    place = torch.arange(64, dtype=torch.int32)
    target, column, _, _, counts = kernels.fused_survivors(
        own, candidates, torch.zeros(64), Rules(0, 0.0, 0.0), place, 10, SMALL
    )
    assert (counts > 10).all() and (torch.bincount(target) == 10).all()
    assert len(set(zip(target.tolist(), column.tolist(), strict=True))) == 640


@pytest.mark.parametrize("rules", [{}, {"score": "text"}, {"min_similarity": 0.4, "near_duplicate": 0.9}], ids=str)
def test_fused_search_gives_the_bytes_of_the_plain_one(monkeypatch, rules):
    image, text = clustered(300, 40, 24, seed=3)
    pairs, settings = open_pairs(image, text, text_group=np.arange(300) // 3), SearchSettings(depth=10, **rules)
    monkeypatch.setattr("helip.mining.sweep.BLOCK", 64)
    plain = ExactSearch(pairs, settings, dtype=torch.float32).search(range(300))
    monkeypatch.setattr("helip.mining.sweep.can_fuse", lambda device, dtype: True)
    monkeypatch.setattr(kernels, "TILES", SMALL)
    fused = ExactSearch(pairs, settings, dtype=torch.float16).search(range(300))
    for name in ("rows", "scores", "scores_image", "scores_text"):
        assert np.array_equal(getattr(plain, name), getattr(fused, name))
