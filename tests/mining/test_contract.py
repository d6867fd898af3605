"""`Candidates` with upper bounds at the ends of their error: it loses no hard pair, and keeps few others.

The contract: a bound u of a cosine c, computed with relative rounding ulp, has
    u (1 - ulp) - 2 (gap (1 + 2 ulp) + 1.01 worst (1 + 8 ulp))  <=  c  <=  u (1 + ulp).
Embeddings do not reach the ends in practice; here cosines lie at one of them. Legend: C candidates of one target.
"""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from helip.mining.bounds import ULP
from helip.mining.candidates import Candidates
from helip.mining.exact import ExactSearch
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
K, C = 6, 16
GAPS = [
    (1e-5, 1e-5, 1e-5, 1e-5),
    (1e-3, 3e-3, 1e-5, 1e-5),
    (7e-3, 3e-3, 0.0, 1e-4),
    (1e-5, 1e-4, 1e-3, 3e-3),
]  # gap, worst
SCORES = ["joint", "image", "text"]
FAR = 20  # roundings: float16 limits are rounded down as far as bfloat16 ones, by 2 ** -7


def lost(gaps: tuple[float, ...], m: int, ulp: float) -> float:
    """Most by which a bound of modality m may exceed its cosine, besides its rounding."""
    return 2 * (float(np.float32(gaps[m])) * (1 + 2 * ulp) + 1.01 * gaps[2 + m] * (1 + 8 * ulp))


def ends(u: float, gaps: tuple[float, ...], m: int, ulp: float) -> tuple[float, float]:
    return u * (1 - ulp) - lost(gaps, m, ulp), u * (1 + ulp)


def score_of(score: str, image: float, text: float) -> float:
    return {"joint": image * text, "image": image, "text": text}[score]


def given(dtype: torch.dtype, *values: float) -> list[torch.Tensor]:
    """Bounds (1, C) of each modality: the first K have these values, the others are far below."""
    rows = [torch.full((1, C), 0.125, dtype=dtype) for _ in values]
    for row, value in zip(rows, values, strict=True):
        row[:, :K] = value
    return rows


def searched(
    dtype: torch.dtype,
    blocks: list[list[torch.Tensor]],
    gaps: tuple[float, ...] = GAPS[0],
    single: bool = False,
    slack: int = 0,
    **rules: Any,
) -> Candidates:
    """Candidates of one target, the last row, after blocks of C candidates; `rules` may hold groups."""
    groups = {name: rules.pop(name) for name in ("image_group", "text_group") if name in rules}
    count = C * len(blocks)
    pairs = open_pairs(np.ones((count + 1, 2)), np.ones((count + 1, 2)), **groups)
    settings = SearchSettings(**{"depth": K, "near_duplicate": 1.0} | rules)
    found = Candidates(np.array([count]), pairs, settings, ULP[dtype], torch.device("cpu"), single, slack)
    for number, upper in enumerate(blocks):
        columns = torch.arange(C) + C * number
        gap = [torch.tensor([g]) for g in gaps[:2]]
        found.add(slice(0, 1), columns, torch.tensor([-1]), [u.clone() for u in upper], gap, list(gaps[2:]))
        if not single and number + 1 < len(blocks):
            found.tighten(C * (number + 1.0))
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("score", SCORES)
def test_bounds_are_below_the_lowest_truth_and_not_far_below(dtype, score) -> None:
    ulp = ULP[dtype]
    for gaps, image, text in product(GAPS, (0.375, 0.75, 1.0), (0.40625, 1.0)):
        found = searched(dtype, [given(dtype, image, text)], gaps, score=score)
        (low_image, _), (low_text, _) = ends(image, gaps, 0, ulp), ends(text, gaps, 1, ulp)
        truth, best = score_of(score, low_image, low_text), score_of(score, image, text)
        first, lower = float(found.threshold[0]), found.parts[-1].lower[:K].double()
        assert 0 < first <= truth and (lower <= truth).all()
        of = lost(gaps, 0, ulp), lost(gaps, 1, ulp)
        most = {"joint": max(of[0] + of[1] * best, of[1] + of[0] * best), "image": of[0], "text": of[1]}[score]
        assert first >= best * (1 - 10 * ulp) - 1.12 * most
        assert (lower >= truth - 4 * ulp - 3e-6).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("where", ["same block", "later block", "single"])
def test_a_pair_at_its_highest_survives_among_pairs_at_their_lowest(dtype, score, where) -> None:
    ulp = ULP[dtype]
    near = [(GAPS[0], n / 64, n / 64) for n in range(33, 64)]  # of some the highest is hardly rounded
    for gaps, image, text in (*product(GAPS, (0.375, 0.75, 1.0), (0.40625, 1.0)), *near):
        (low_image, _), (low_text, _) = ends(image, gaps, 0, ulp), ends(text, gaps, 1, ulp)
        share = score_of(score, low_image / image, low_text / text) ** (0.5 if score == "joint" else 1) / (1 + ulp)
        crowd, late = given(dtype, image, text), given(dtype, 0.125, 0.125)
        for rows, later, value in zip(crowd, late, (image, text), strict=True):
            rounded = torch.tensor([value * share], dtype=torch.float64).to(dtype)
            up = rounded if float(rounded) >= value * share else (rounded.double() * (1 + 2 * ulp)).to(dtype)
            (later if where == "later block" else rows)[0, C - 1] = up[0]
        blocks = [crowd, late] if where == "later block" else [crowd]
        found = searched(dtype, blocks, gaps, where == "single", score=score)
        assert len(blocks) * C - 1 in found.candidates()[0][0].tolist()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("m", [0, 1])
def test_what_may_be_a_near_duplicate_makes_no_threshold(dtype, score, m) -> None:
    ulp, values = ULP[dtype], [0.5, 0.5]
    values[m] = 0.8125
    for limit, counts in ((np.nextafter(0.8125 * (1 + ulp), 0), False), (0.8125 * (1 + FAR * ulp), True)):
        rules: dict[str, Any] = {"near_duplicate": (limit, 1.0) if m == 0 else (1.0, limit)}
        found = searched(dtype, [given(dtype, *values)], score=score, **rules)
        others = score_of(score, 0.125, 0.125)  # which the limit lets pass
        assert (float(found.threshold[0]) > others) == counts
        assert (found.parts[-1].lower[:K] > 0).all() if counts else not found.parts[-1].lower[:K].any()
        assert set(range(K)) <= set(found.candidates()[0][0].tolist())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("score", "m"), [("joint", 0), ("joint", 1), ("image", 0), ("text", 1)])
def test_the_minimum_of_a_similarity(dtype, score, m) -> None:
    ulp, values = ULP[dtype], [0.5, 0.5]
    values[m] = 0.8125
    low, high = ends(0.8125, GAPS[0], m, ulp)
    for limit, counts, survives in (
        (low - FAR * ulp, True, True),  # surely above it
        (np.nextafter(low, 1), False, True),  # perhaps
        (high, False, True),
        (0.8125 * (1 + 5 * ulp), False, False),  # surely not
    ):
        rules: dict[str, Any] = {"min_similarity": (limit, 0.0) if m == 0 else (0.0, limit)}
        found = searched(dtype, [given(dtype, *values)], score=score, **rules)
        assert (float(found.threshold[0]) > 0) == counts
        rows = found.candidates()[0][0].tolist()
        assert rows == (list(range(K)) if survives else [-1])
        lower = found.parts[-1].lower
        assert (lower > 0).all() if counts else not lower.any()


@pytest.mark.parametrize("names", [("image_group",), ("text_group",), ("image_group", "text_group")])
def test_a_shared_group_makes_no_threshold(names) -> None:
    """Group 0 is a group; one shared group of two is enough."""
    block = given(torch.float32, 0.75, 0.75)
    alone, shared = np.arange(C + 1), np.arange(C + 1)
    shared[: K - 1], shared[C], shared[K - 1 : C] = 0, 0, -1
    for last in range(len(names)):
        groups: dict[str, Any] = dict.fromkeys(names, alone) | {names[last]: shared}
        found = searched(torch.float32, [block], **groups)
        assert float(found.threshold[0]) < 0.125**2
        assert not found.parts[-1].lower[: K - 1].any() and found.parts[-1].lower[K - 1] > 0.5
    shared[C] = -1  # the target has none
    groups = dict.fromkeys(names, shared)
    found = searched(torch.float32, [block], **groups)
    assert found.threshold[0] > 0.5 and (found.parts[-1].lower[:K] > 0.5).all()


def test_slack_trusts_upper_bounds_and_keeps_more() -> None:
    block = given(torch.float32, 0.75, 0.75)
    found = searched(torch.float32, [block], GAPS[1], slack=2)
    assert found.threshold[0] == 0.125**2  # of the (K + 2)-th
    found = searched(torch.float32, [block], GAPS[1], depth=K - 2, slack=2)
    assert found.threshold[0] == 0.75**2


def test_a_first_block_narrower_than_what_is_kept_makes_no_threshold() -> None:
    found = searched(torch.float32, [given(torch.float32, 0.75, 0.75)] * 2, depth=C + 1)
    assert set(found.candidates()[0][0].tolist()) == set(range(2 * C))


def part_by_part(single: bool) -> tuple[np.ndarray, np.ndarray]:
    """Four targets, rows 0 to 3 of the C candidates, two at a time; all candidates of the last one are equal."""
    pairs = open_pairs(np.ones((C, 2)), np.ones((C, 2)))
    found = Candidates(np.arange(4), pairs, SearchSettings(depth=2), ULP[torch.float32], torch.device("cpu"), single)
    for start in (0, 2):
        upper = torch.full((2, C), 0.125)
        upper[:, [0, 5, 9]] = 0.75
        upper[1] = 0.5 if start else upper[1]
        gap = [torch.tensor([1e-6, 1e-6])] * 2
        own = torch.tensor([start, start + 1])
        found.add(slice(start, start + 2), torch.arange(C), own, [upper, upper.clone()], gap, [1e-6, 1e-6])
    return found.candidates()


@pytest.mark.parametrize("single", [False, True])
def test_a_target_is_never_its_own_candidate(single) -> None:
    rows, _ = part_by_part(single)
    wanted = [[5, 9], [0, 5, 9], [0, 5, 9], [n for n in range(C) if n != 3]]
    assert [[r for r in line if r >= 0] for line in rows.tolist()] == wanted


@pytest.mark.parametrize("single", [False, True])
def test_a_crowd_is_given_up(set_room, single) -> None:
    set_room(5)
    rows, redone = part_by_part(single)
    assert redone.tolist() == [3]
    assert [[r for r in line if r >= 0] for line in rows.tolist()] == [[5, 9], [0, 5, 9], [0, 5, 9], []]


UNIT = (127, 15, 5, 2, 1, 0, 0, 0, 0)  # / 128: of length 1, and exact in bfloat16


def with_cosine(count: int) -> np.ndarray:
    """(9,) integers / 128 of length 1, exact in bfloat16, whose cosine with UNIT is count / 128^2."""
    entries, rest = [], count
    for own in UNIT[:5]:
        entries.append(rest // own)
        rest -= entries[-1] * own
    left = 128**2 - sum(entry**2 for entry in entries)
    least = range(math.isqrt(left) + 1)
    four = next(  # Lagrange: every natural number is the sum of four squares
        (a, b, c, math.isqrt(d))
        for a in reversed(least)
        for b in least
        for c in least
        if (d := left - a * a - b * b - c * c) >= 0 and math.isqrt(d) ** 2 == d
    )
    return np.array([*entries, *four], np.float32) / 128


def test_a_hard_pair_whose_products_all_round_down_is_found_among_those_that_round_up() -> None:
    """The cosines lie next to the middle of two bfloat16 numbers, so that only rounding separates cosine and bound."""
    far = with_cosine(3000)
    sides = []
    for others, hardest in ((267, 269), (279, 277)):  # / 512: such middles
        crowd, last = with_cosine(32 * others), with_cosine(32 * hardest - 1)
        sides.append(np.stack([np.array(UNIT, np.float32) / 128, *[crowd] * 8, *[far] * 30, last]))
    settings = SearchSettings(depth=5, near_duplicate=1.0)
    for dtype in DTYPES:
        found = ExactSearch(open_pairs(*sides), settings, dtype=dtype).search(range(1))
        assert found.rows.tolist() == [[39, 1, 2, 3, 4]], dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_largest_error_of_one_rounding(dtype) -> None:
    just_below_a_middle = torch.tensor(1 + torch.finfo(dtype).eps * (0.5 - 1e-6), dtype=torch.float64)
    error = float(1 - just_below_a_middle.to(dtype).double() / just_below_a_middle)
    assert 0.99 * ULP[dtype] < error <= ULP[dtype]
