"""The exact search against a brute force in float64, rule by rule and precision by precision."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.synthetic import clustered
from helip.mining.exact import ExactSearch, fast_dtype
from helip.mining.quick import near_edges, tolerance, unstable
from helip.mining.reference import hard_pairs
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from tests.mining.results import assert_same

RULES = [
    {},
    {"score": "image"},
    {"score": "text"},
    {"min_similarity": 0.5},
    {"near_duplicate": (1.0, 0.9), "min_similarity": (0.3, 0.2)},
    {"skip_first": 3},
]


def check(image, text, rules, dtype, depth=20, rows=None, **more):
    pairs = open_pairs(image, text, **more)
    settings = SearchSettings(depth=depth, **rules)
    rows = rows or range(len(image))
    found = ExactSearch(pairs, settings, dtype=dtype).search(rows)
    plain = hard_pairs(
        image,
        text,
        depth,
        settings.score,
        settings.near_duplicate,
        settings.min_similarity,
        settings.skip_first,
        targets=np.array(rows),
        **more,
    )
    assert np.array_equal(found.rows, plain[0])
    for ours, theirs in zip((found.scores, found.scores_image, found.scores_text), plain[1:], strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=6e-8)
    return found


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_every_rule_in_both_precisions(rules, dtype):
    image, text = clustered(700, 40, 24, seed=1)
    check(image, text, rules, dtype)


def test_centred_embeddings_have_negative_similarities():
    image, text = clustered(400, 16, 12, seed=2)
    image, text = image - image.mean(0), text - text.mean(0)
    found = check(image, text, {}, torch.bfloat16, depth=150)
    assert (found.rows < 0).any(), "no row ran short, so padding was not tested"


def test_many_blocks_and_float16(monkeypatch):
    monkeypatch.setattr("helip.mining.sweep.STEP", 96)
    monkeypatch.setattr("helip.mining.sweep.BLOCK", 128)
    image, text = clustered(1000, 24, 24, seed=3, dtype="float16")
    check(image, text, {}, torch.bfloat16, rows=range(130, 700))


def test_groups_and_invalid_rows():
    image, text = clustered(500, 24, 16, seed=4)
    rng = np.random.default_rng(0)
    groups: dict[str, Any] = {"image_group": rng.integers(-3, 40, 500), "text_group": rng.integers(-1, 200, 500)}
    valid = rng.random(500) > 0.1
    image[~valid] = np.nan
    pairs = open_pairs(image, text, valid=valid, **groups)
    found = ExactSearch(pairs, SearchSettings(depth=20)).search(range(500))
    image[~valid] = 1.0
    plain = hard_pairs(image, text, 20, valid=valid, **groups)
    assert np.array_equal(found.rows, plain[0])
    assert (found.rows[~valid] == -1).all() and found.removed["group_image"] > 0


def test_rows_with_too_many_ties_are_redone_in_full_precision(set_room):
    set_room(30)
    image, text = clustered(600, 16, 16, seed=5)
    image[100:300], text[100:300] = image[100], text[100]
    found = check(image, text, {"near_duplicate": 1.0}, torch.bfloat16, depth=10)
    assert found.redone >= 200
    assert found.rows[100].tolist() == list(range(101, 111)), "ties are not broken by the lower row"


def test_removed_counts_what_would_have_been_first():
    image = np.eye(6)[[0, 0, 0, 1, 2, 3]] + 0.2
    text = np.eye(6)[[0, 0, 1, 0, 2, 3]] + 0.2
    found = ExactSearch(open_pairs(image, text), SearchSettings(depth=2, near_duplicate=0.99)).search(range(1))
    # row 0: row 1 copies both (counted for its image), row 2 the image, row 3 the caption; rows 4 and 5 are kept
    assert found.rows.tolist() == [[4, 5]]
    assert (found.removed["near_duplicate_image"], found.removed["near_duplicate_text"]) == (2, 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_quick_sums_store_the_bits_of_the_folded_ones(monkeypatch, dtype):
    image, text = clustered(600, 72, 40, seed=6, dtype=dtype, copies=0.3)
    pairs, settings = open_pairs(image, text), SearchSettings(depth=60, near_duplicate=1.0)
    quick = ExactSearch(pairs, settings).search(range(600))
    monkeypatch.setattr("helip.mining.rescore.near_edges", lambda similar, *_: np.ones(len(similar[0]), bool))
    folded = ExactSearch(pairs, settings).search(range(600))
    assert_same(quick, folded)


def test_doubt_is_raised_where_it_matters():
    close = tolerance(1280)
    x = np.array([0.3, 0.3 + close / 2, 0.31, 1e-14, 0.9, 0.98])
    settings = SearchSettings(depth=3, min_similarity=(0.3, 0.0), near_duplicate=(0.98, 1.0))
    assert near_edges([x, x * 0 + 0.5], settings, close).tolist() == [True, True, False, True, False, True]
    half_way = (float(np.nextafter(np.float32(0.1), np.float32(1))) + float(np.float32(0.1))) / 2  # between two float32
    score = np.array([[0.9, 0.9, 0.5, 0.3, half_way, 0.05, 0.04], [0.7, 0.6, 0.5, 0.4, 0.3, 0.3, 0.3]])
    order = np.argsort(-score, axis=1, kind="stable")
    plain = np.full_like(score, 0.75)
    marked = unstable([score, plain, plain], order[:, :6], 6, close)
    assert marked[0].tolist() == [True, True, False, False, True, False, False]
    assert marked[1].all(), "ties go on beyond the head, so that the whole row is in doubt"


def test_a_copy_on_another_device_gives_the_same_bits():
    image, text = clustered(400, 40, 24, seed=7, dtype="float16")
    pairs, settings = open_pairs(image, text), SearchSettings(depth=20)
    plain = ExactSearch(pairs, settings).search(range(400))
    sides = (replace(v, resident=torch.from_numpy(v.array)) for v in pairs.modalities)  # as a GPU would hold them
    resident = replace(pairs, **dict(zip(("image", "text"), sides, strict=True)))
    assert_same(plain, ExactSearch(resident, settings).search(range(400)))


@pytest.mark.parametrize(
    ("small", "full", "chosen", "asked"),
    [
        ({"float16": 24, "bfloat16": 0.8, "float32": 1}, {"bfloat16": 0.3, "float32": 1}, "bfloat16", 2),
        ({"float16": 24, "bfloat16": 30, "float32": 1}, {"float32": 1}, "float32", 1),
        ({"float16": 1.2, "bfloat16": 1, "float32": 1}, {"float16": 0.3, "bfloat16": 0.25, "float32": 1}, "float16", 3),
        ({"float16": 1, "bfloat16": 1, "float32": 1}, {"float16": 2, "bfloat16": 1.1, "float32": 1}, "float32", 3),
    ],
)
def test_a_type_that_is_emulated_is_never_tried_at_full_size(
    monkeypatch: pytest.MonkeyPatch, small: dict, full: dict, chosen: str, asked: int
) -> None:
    """The trial took 9 s on an AMD processor."""
    sizes: list[int] = []

    def seconds(dtype: torch.dtype, device: torch.device, size: int) -> float:
        sizes.append(size)
        return (full if size == 1024 else small)[str(dtype).removeprefix("torch.")]

    monkeypatch.setattr("helip.mining.exact.product_seconds", seconds)
    assert fast_dtype.__wrapped__(torch.device("cpu")) == getattr(torch, chosen)
    assert sizes.count(1024) == asked
