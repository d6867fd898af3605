"""The bounds of the bulk pass hold for every pair, and its fast scans equal plain ones."""

import numpy as np
import pytest
import torch

from benchmarks.synthetic import clustered
from helip.mining.bounds import ULP, RowSource, as_targets, lower_bound
from helip.mining.candidates import Candidates
from helip.mining.reference import unit64
from helip.mining.scan import above, drop_below, kth_largest, order_of, zero_above
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs

DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def awkward(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with large rounding errors."""
    image, text = clustered(200, 48, 33, seed=1)
    if kind == "one large entry":
        image[:, 0] += 40
    if kind == "all entries half-way between two bfloat16":
        image = np.sign(image) * (1 + 2.0**-8)
    if kind == "tiny and huge rows":
        image[::2] *= 1e-18
        image[1::2] *= 1e18
    return image, text


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "kind", ["plain", "one large entry", "all entries half-way between two bfloat16", "tiny and huge rows"]
)
def test_true_cosines_lie_between_the_bounds(dtype, kind):
    image, text = awkward(kind)
    pairs = open_pairs(image, text)
    block = RowSource(pairs, dtype, 1 << 30, torch.device("cpu")).rows(slice(None))
    for side, vectors, given in zip(block, pairs.modalities, (image, text), strict=True):
        own, gap = as_targets(side, vectors.width)
        upper = (own @ side.values.T).double()
        true = torch.from_numpy(unit64(given) @ unit64(given).T)
        ulp = ULP[dtype]
        assert (upper + upper.abs() * ulp >= true).all()
        lower = lower_bound(upper.float(), gap[:, None], float(side.error.max()), ulp)
        assert ((lower <= true) | (upper <= 0)).all()
        assert (upper - true).max() < (0.02 if dtype == torch.bfloat16 else 0.004), "bounds too loose to be of use"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("score", ["joint", "image"])
def test_first_thresholds_are_below_the_true_kth_score(dtype, score):
    image, text = clustered(300, 24, 16, seed=2, copies=0.2)
    settings = SearchSettings(depth=20, score=score, near_duplicate=0.9, min_similarity=0.2)
    pairs = open_pairs(image, text)
    block = RowSource(pairs, dtype, 1 << 30, torch.device("cpu")).rows(slice(None))
    sides = [as_targets(side, v.width) for side, v in zip(block, pairs.modalities, strict=True)]
    found = Candidates(np.arange(300), pairs, settings, ULP[dtype], torch.device("cpu"))
    upper = [own @ side.values.T for (own, _), side in zip(sides, block, strict=True)]
    worst = [float(side.error.max()) for side in block]
    found.add(slice(0, 300), torch.arange(300), torch.arange(300), upper, [gap for _, gap in sides], worst)
    from helip.mining.reference import hard_pairs

    rules = {"score": score, "near_duplicate": 0.9, "min_similarity": 0.2}
    kth = hard_pairs(image, text, 20, **rules)[1][:, -1]
    threshold = found.threshold.numpy()
    assert (threshold <= kth + 1e-7).all()
    assert (threshold[kth > 0.3] > 0).mean() > 0.9, "thresholds too loose to be of use"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [64, 61])
def test_scans_equal_plain_ones(dtype, width):
    rng = torch.Generator().manual_seed(0)
    values = (torch.rand(33, width, generator=rng) - 0.3).to(dtype)
    limit = torch.rand(33, generator=rng) * 0.5
    limit[0] = 0
    row, column = above(values, limit)
    kept = set(zip(row.tolist(), column.tolist(), strict=True))
    wanted = {tuple(p) for p in ((values > 0) & (values.float() >= limit[:, None])).nonzero().tolist()}
    assert wanted <= kept  # limits are rounded down, so a few more may pass
    assert len(kept) <= len(wanted) * 1.05
    dropped = values.clone()
    drop_below(dropped, 0.0)
    assert torch.equal(dropped, values.clamp(min=0))
    kth = kth_largest(dropped[:, :60].contiguous(), 7)
    assert torch.equal(kth, dropped[:, :60].topk(7, dim=1).values[:, -1])
    zeroed, other = dropped.clone(), values.roll(1, 0).contiguous()
    zero_above(zeroed, other, 0.25)
    assert (zeroed[other > 0.25] == 0).all() and torch.equal(zeroed[other <= 0.24], dropped[other <= 0.24])
    target = torch.randint(0, 9, (500,), generator=rng).int()
    assert torch.equal(order_of(target, 9), torch.sort(target, stable=True).indices)
