"""The inner loops at their edges, in the form for the CPU and, with a tensor that claims a GPU, in that for a GPU."""

import numpy as np
import pytest
import torch

from helip.mining import scan
from helip.mining.scan import INTEGER, above, drop_below, kth_largest, nearly_kth_largest, order_of, zero_above

DTYPES = [torch.bfloat16, torch.float16, torch.float32]


class Elsewhere(torch.Tensor):
    """A tensor on the CPU that claims to be on a GPU."""

    is_cuda = property(lambda self: True)  # type: ignore[assignment]


def claim(tensor: torch.Tensor, elsewhere: bool) -> torch.Tensor:
    return tensor.as_subclass(Elsewhere) if elsewhere else tensor


def neighbours(dtype: torch.dtype, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(count,) float32 limits from 0.1 to 1, and (count, 64) numbers of `dtype` next to them, below and above."""
    limit = torch.rand(count, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.1
    bits = limit.to(dtype).view(INTEGER[dtype])[:, None] + torch.arange(-32, 32, dtype=INTEGER[dtype])
    return limit, bits.view(dtype)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [64, 63])
def test_no_limit_is_rounded_up(dtype, width, elsewhere) -> None:
    limit, values = neighbours(dtype, 300)
    values = values[:, :width].contiguous()
    row, column = above(claim(values, elsewhere), limit)
    kept = torch.zeros(values.shape, dtype=torch.bool)
    kept[row, column] = True
    assert kept[values.float() >= limit[:, None]].all()
    tolerance = 0 if elsewhere or width % 8 or dtype == torch.float32 else 2**-6
    assert (values.float()[kept] >= (limit[:, None] * (1 - tolerance)).expand_as(values)[kept]).all()


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [64, 63])
def test_above_a_limit_of_0_is_what_is_positive(dtype, width, elsewhere) -> None:
    values = torch.zeros(3, width, dtype=dtype)
    values[1, 5] = torch.tensor(1, dtype=INTEGER[dtype]).view(dtype)  # the smallest positive number
    values[1, 6], values[2, 0], values[2, 7] = -0.5, 1.0, -0.0
    row, column = above(claim(values, elsewhere), torch.zeros(3))
    assert list(zip(row.tolist(), column.tolist(), strict=True)) == [(1, 5), (2, 0)]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("least", [0.0, 0.25, 1.0])
def test_what_is_not_above_the_least_is_dropped(dtype, least, elsewhere) -> None:
    values = torch.linspace(-2, 2, 65).to(dtype)[None].repeat(2, 1)
    plain = torch.where(values > least, values, 0)
    drop_below(claim(values, elsewhere), least)
    assert torch.equal(values, plain)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_nothing_above_an_edge_is_kept(dtype, sign, elsewhere) -> None:
    edges, others = neighbours(dtype, 300)
    for edge, other in zip((sign * edges.double()).tolist(), sign * others, strict=True):
        values = torch.full((1, 64), 0.5, dtype=dtype)
        zero_above(claim(values, elsewhere), claim(other[None].contiguous(), elsewhere), edge)
        kept = values[0] == 0.5
        assert not values[0][~kept].any()
        assert not kept[other.double() > edge].any()
        assert kept[other.double() <= edge - 2**-6 * abs(edge)].all()


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("edge", [-0.25, 0.0, 0.25])
def test_what_equals_the_edge_stays(edge, elsewhere) -> None:
    other = torch.tensor([[-0.5, -0.25, 0.0, 0.125, 0.25, 0.5, 1.0, -1.0]])
    values = torch.ones(1, 8)
    zero_above(claim(values, elsewhere), claim(other, elsewhere), edge)
    assert torch.equal(values, (other <= edge).float())


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_kth_largest(dtype, elsewhere) -> None:
    values = torch.rand(7, 40, generator=torch.Generator().manual_seed(1)).to(dtype)
    for k in (1, 7, 40):
        assert torch.equal(kth_largest(claim(values, elsewhere), k), values.sort(descending=True).values[:, k - 1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [40, 600, 4097])
def test_the_quick_kth_largest_is_never_too_large(dtype, width) -> None:
    values = torch.rand(30, width, generator=torch.Generator().manual_seed(1)).to(dtype)
    ranked = values.sort(descending=True).values
    for k in (1, 7, 40):
        found = nearly_kth_largest(values, k)
        assert (found <= ranked[:, k - 1]).all() and (found >= ranked[:, min(2 * k, width) - 1]).all()
        assert torch.equal(kth_largest(values, k), ranked[:, k - 1])


@pytest.mark.parametrize("count", [9, 2**15, 40_000])
def test_the_order_is_stable_for_any_count(count) -> None:
    target = np.random.default_rng(0).integers(0, count, 3000).astype(np.int32)
    target[:4] = count - 1, 0, count - 1, 0
    assert order_of(torch.from_numpy(target), count).tolist() == np.argsort(target, kind="stable").tolist()


def test_a_gpu_is_asked_for_a_stable_order(monkeypatch) -> None:
    """By the arguments of the call, because torch's other sort may be stable on the CPU too."""
    asked, plain = [], torch.sort
    monkeypatch.setattr(scan.torch, "sort", lambda *given, **how: asked.append(how) or plain(*given, **how))
    order_of(claim(torch.tensor([1, 0, 1]), True), 2)
    assert asked == [{"stable": True}]
