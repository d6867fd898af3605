"""The Triton kernels against the matrices that they replace; run by test_kernels with TRITON_INTERPRET=1."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.crowds import with_crowd
from benchmarks.synthetic import clustered
from helip.mining import fused, sweep
from helip.mining.bounds import RowSource, as_targets, looped_width
from helip.mining.exact import ExactSearch
from helip.mining.flat import Limits
from helip.mining.fused import Form
from helip.mining.reference import hard_pairs
from helip.mining.settings import Rules, SearchSettings
from helip.mining.vectors import Resident, open_pairs
from tests.mining.results import assert_same

SMALL: dict[str, Any] = {"BM": 16, "BN": 32, "BK": 32, "GROUP": 2}
FORMS = [Form({**SMALL, "TMA": tma, "PACK": pack}, {}) for tma, pack in ((0, 0), (1, 2))]
WIDTHS = (64, 70)  # the error columns lie beyond the last step of the first, and within that of the second


def rounded(count: int, seed: int, dtype: torch.dtype):
    image, text = clustered(count, *WIDTHS, seed=seed)
    pairs = open_pairs(image, text)
    block = RowSource(pairs, dtype, 1 << 30, torch.device("cpu")).rows(slice(None))
    own = [as_targets(side, v.width)[0] for side, v in zip(block, pairs.modalities, strict=True)]
    return own, [side.values for side in block]


def limits_of(score: int, low: float, plain: torch.Tensor, crowd: bool) -> Limits:
    """Limits that a fifth of the pairs pass; `crowd` adds those of copies for some targets."""
    count = len(plain)
    add = torch.stack([torch.linspace(0, 0.01, count), torch.linspace(0.01, 0, count)])
    threshold = plain.quantile(0.8, dim=1)
    threshold[7] = float("inf")
    near = torch.full((2, count), float("inf"))
    groups = None
    if crowd:
        near[:, ::2] = 0.7
        groups = torch.full((2, count), -1, dtype=torch.int32)
        groups[0, 1::3], groups[1, 2::3] = 3, 4
    return Limits(torch.cat([threshold[None], add, near]), groups, Rules(score, low, low))


def passing(x, y, limits: Limits, ids: torch.Tensor, loose: float) -> torch.Tensor:
    """(S, C) bool: pairs that pass the limits, widened by `loose`."""
    rules, (threshold, _, _, *near) = limits.rules, limits.values[:, :, None]
    alive = (x * y, x, y)[rules.score] >= threshold * (1 - loose)
    if rules.score != 2:
        alive &= x > rules.low_image - loose
    if rules.score != 1:
        alive &= y > rules.low_text - loose
    if limits.groups is not None:
        alive &= (x <= near[0] + loose) & (y <= near[1] + loose)
        for theirs, mine in zip(ids, limits.groups[:, :, None], strict=True):
            alive &= (theirs != mine) | (mine < 0)
    return alive


@pytest.mark.parametrize("score", [0, 1, 2])
@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"tma{form.tiles['TMA']}-pack{form.tiles['PACK']}")
def test_kernels_mark_what_plain_matrices_keep(monkeypatch, score, crowd, form):
    """In shapes that leave the last tiles partly empty; packed image products are rounded up."""
    monkeypatch.setattr("helip.mining.bounds.ALIGN", 64)
    own, candidates = rounded(110, 1, torch.float16)
    own = [values[:37] for values in own]
    place = torch.arange(37, dtype=torch.int32) + 5
    place[3], place[4], place[5] = -1, -200, 110
    looped = [looped_width(w) for w in WIDTHS]
    x, y = (a[:, :w].float() @ b[:, :w].float().T for a, b, w in zip(own, candidates, looped, strict=True))
    limits = limits_of(score, 0.0 if crowd else 0.5, (x * y, x, y)[score], crowd)
    _, add_x, add_y, *_ = limits.values
    x, y = x + add_x[:, None], y + add_y[:, None]
    ids = torch.randint(0, 6, (2, 110), generator=torch.Generator().manual_seed(0)).int() - 1
    itself = torch.zeros(37, 110, dtype=torch.bool)
    inside = (place >= 0) & (place < 110)
    itself[torch.arange(37)[inside], place[inside].long()] = True
    words = fused.mark(own, candidates, limits, ids if crowd else None, WIDTHS, form)
    counts = fused.counted(words, place, 110)
    target, column = (found.long() for found in fused.listed(words, place, counts, int(counts.sum()), 110))
    found = torch.zeros(37, 110, dtype=torch.bool)
    found[target, column] = True
    assert found.sum() == len(target) == counts.sum() > 200 and not (found & itself).any()
    assert (torch.diff(target * 110 + column) > 0).all(), "not by target and column"
    loose = 2.0**-8 if form.tiles["PACK"] else 1e-6
    assert not (passing(x, y, limits, ids, -loose) & ~itself & ~found).any()
    assert not (found & ~passing(x, y, limits, ids, loose)).any()
    if form.tiles["PACK"] and not crowd:
        assert not (passing(x, y, limits, ids, -1e-6) & ~itself & ~found).any(), "rounded down"
    for values, a, b, add, width in zip((x, y), own, candidates, (add_x, add_y), WIDTHS, strict=True):
        bound = fused.bounded(a, b, add.contiguous(), target.int(), column.int(), width)
        np.testing.assert_allclose(bound, values[target, column], atol=1e-5)


RULES: list[dict[str, Any]] = [
    {},
    {"score": "image"},
    {"score": "text", "skip_first": 3},
    {"min_similarity": 0.4, "near_duplicate": 0.9},
    {"near_duplicate": 1.0},
]


@pytest.fixture
def small_blocks(monkeypatch, set_room):
    """Sizes as on a GPU, but small."""
    monkeypatch.setattr(fused, "device_form", lambda device, sides, crowd: FORMS[1 if sides == 3 else 0])
    monkeypatch.setattr(sweep, "can_fuse", lambda device, dtype: dtype != torch.float32)
    shape = sweep.Shape(targets=64, pairs=1 << 20, candidates=96, first=64)
    monkeypatch.setattr("helip.mining.exact.shape_on", lambda device: shape)
    monkeypatch.setattr("helip.mining.bounds.ALIGN", 64)
    set_room(48)
    monkeypatch.setattr("helip.mining.candidates.COPIES", 12)


def same_as_reference(image, text, rules, dtype=torch.float16, valid=None, depth=10, **groups: Any):
    """The result has the bytes of the plain search in float32, and the rows of a brute force in float64."""
    pairs, settings = open_pairs(image, text, valid=valid, **groups), SearchSettings(depth=depth, **rules)
    plain = ExactSearch(pairs, settings, dtype=torch.float32).search(range(len(image)))
    if not pairs.partner.all():
        pairs = replace(pairs, resident=resident_on_cpu(pairs))
    found = ExactSearch(pairs, settings, dtype=dtype).search(range(len(image)))
    assert_same(plain, found)
    names = ("score", "near_duplicate", "min_similarity", "skip_first")
    known = {name: rules[name] for name in names if name in rules}
    assert np.array_equal(found.rows, hard_pairs(image, text, depth, valid=valid, **known, **groups)[0])
    return found


def resident_on_cpu(pairs) -> Resident:
    """The groups and bits that `on_device` makes on a GPU."""
    bits = np.packbits(np.pad(pairs.partner, (0, -len(pairs) % 32)), bitorder="little").view(np.int32)
    image, text = (None if g is None else torch.from_numpy(g).int() for g in pairs.groups)
    return Resident((image, text), torch.from_numpy(pairs.partner), torch.from_numpy(bits))


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_fused_search_gives_the_bytes_of_the_plain_one(small_blocks, rules):
    image, text = clustered(203, *WIDTHS, seed=3, copies=0.1)  # a tenth ties
    same_as_reference(image, text, rules, text_group=np.arange(203) // 3)


def test_rows_that_are_not_valid_are_passed_by(small_blocks):
    image, text = clustered(200, *WIDTHS, seed=4)
    image, text = image - image.mean(0), text - text.mean(0)  # some rows have fewer than K: their threshold is 0
    valid = np.random.default_rng(0).random(200) > 0.3
    found = same_as_reference(image, text, {}, valid=valid, depth=60)
    assert (found.rows[valid] < 0).any() and (found.rows[~valid] == -1).all() and found.redone == 0


def test_of_copies_of_a_pair_the_lowest_is_a_partner(small_blocks):
    image, text = clustered(203, *WIDTHS, seed=3)
    same = np.random.default_rng(0).integers(0, 60, 203)
    found = same_as_reference(image[same], text[same], {"near_duplicate": 1.0}, pair_group=same)
    assert found.removed["distinct"] > 0


@pytest.mark.parametrize(
    ("score", "by"), [("joint", "image"), ("joint", "text"), ("joint", "group"), ("image", "image"), ("text", "text")]
)
def test_crowds_are_passed_by(small_blocks, score, by):
    image, text = clustered(220, *WIDTHS, seed=5, copies=0.0)
    copied, group = with_crowd(text if by == "text" else image, 0.35)
    image, text = (image, copied) if by == "text" else (copied, text)
    rules = {"score": score, "near_duplicate": 1.0 if by == "group" else 0.95}
    groups: dict[str, Any] = {"image_group": group} if by == "group" else {}
    found = same_as_reference(image, text, rules, **groups)
    assert found.redone <= (25 if score != "joint" else 0), "77 rows are a crowd"


def test_ties_beyond_the_room_are_redone(small_blocks):
    image, text = clustered(200, *WIDTHS, seed=6)
    image[100:180], text[100:180] = image[100], text[100]
    assert same_as_reference(image, text, {"near_duplicate": 1.0}).redone >= 80


def test_bfloat16_too(small_blocks, monkeypatch):
    """The products are computed in float32, because the interpreter multiplies the bits of bfloat16 as integers."""
    plain = fused.mark, fused.bounded
    wide = lambda values: [v.float() for v in values]  # noqa: E731
    monkeypatch.setattr(fused, "mark", lambda own, candidates, *more: plain[0](wide(own), wide(candidates), *more))
    monkeypatch.setattr(fused, "bounded", lambda own, side, *more: plain[1](own.float(), side.float(), *more))
    image, text = clustered(150, *WIDTHS, seed=7, copies=0.1)
    same_as_reference(image, text, {}, dtype=torch.bfloat16)
