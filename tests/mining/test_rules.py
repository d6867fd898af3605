"""The rules of a pair, each exactly at its limit; mutants of the rules must fail here (tests/mutation)."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.synthetic import clustered
from helip.mining.exact import ExactSearch
from helip.mining.reference import hard_pairs
from helip.mining.rescore import COUNTED, FILTERS, Ranked, failures, rescore, unfiltered
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, open_pairs


def angles(*degrees: float) -> np.ndarray:
    """(N, 2) float64 rows at these angles."""
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def failed(similar_image, similar_text, settings: SearchSettings, pairs: Pairs | None = None) -> list[str]:
    """Name of the rule that each pair (0, p + 1) breaks."""
    count = len(similar_image)
    pairs = pairs or open_pairs(angles(*range(count + 1)), angles(*range(count + 1)))
    left, right = np.zeros(count, np.int64), np.arange(1, count + 1)
    codes = failures(pairs, left, right, [np.array(similar_image), np.array(similar_text)], settings)
    assert codes.dtype == np.int8 and codes.min() >= -1
    return [FILTERS[code] if code >= 0 else "" for code in codes]


def test_a_similarity_at_its_limit_passes() -> None:
    settings = SearchSettings(depth=3, min_similarity=(0.25, 0.5), near_duplicate=(0.75, 0.875))
    middle = [0.625] * 4
    edges = [0.25, np.nextafter(0.25, 0), 0.75, np.nextafter(0.75, 1)]
    assert failed(edges, middle, settings) == ["", "min_similarity", "", "near_duplicate_image"]
    edges = [0.5, np.nextafter(0.5, 0), 0.875, np.nextafter(0.875, 1)]
    assert failed(middle, edges, settings) == ["", "min_similarity", "", "near_duplicate_text"]


@pytest.mark.parametrize(("score", "free"), [("image", 1), ("text", 0)])
def test_the_minimum_of_a_similarity_outside_the_score_is_not_asked(score, free) -> None:
    settings = SearchSettings(depth=3, score=score, min_similarity=0.5, near_duplicate=0.75)
    image, text = ([-1.0, 0.8] if free == modality else [0.6, 0.6] for modality in (0, 1))
    other = "near_duplicate_image" if free == 0 else "near_duplicate_text"
    assert failed(image, text, settings) == ["", other]  # but its copies are


def test_the_first_broken_rule_is_named_and_a_negative_group_is_none() -> None:
    image, text = np.array([5, 5, 5, -1, 6, 5]), np.array([-2, -2, 7, 7, -2, -2])
    pairs = open_pairs(angles(*range(6)), angles(*range(6)), image_group=image, text_group=text)
    settings = SearchSettings(depth=3, min_similarity=0.1, near_duplicate=0.5)
    high, low = [0.9, 0.3, 0.9, 0.3, 0.0], [0.3, 0.3, 0.9, 0.9, 0.3]
    assert failed(high, low, settings, pairs) == [
        "group_image", "group_image", "near_duplicate_image", "near_duplicate_text", "min_similarity"
    ]  # fmt: skip
    text[:] = 3
    pairs = open_pairs(angles(*range(6)), angles(*range(6)), image_group=np.arange(6), text_group=text)
    assert failed(high, low, settings, pairs)[:4] == ["group_text"] * 4


def test_scores_come_from_two_positive_similarities() -> None:
    image, text = np.array([0.5, -0.5, -0.5, 0.0, 0.5]), np.array([0.25, 0.25, -0.25, 1.0, 0.0])
    assert unfiltered(image, text, "joint").tolist() == [0.125, 0, 0, 0, 0]
    assert unfiltered(image, text, "image").tolist() == [0.5, 0, 0, 0, 0.5]
    assert unfiltered(image, text, "text").tolist() == [0.25, 0.25, 0, 1, 0]


def ranked(candidates: list[int], pairs: Pairs, target: int = 0, **rules) -> Ranked:
    return rescore(pairs, np.array([target]), np.array([candidates]), SearchSettings(**rules))


def test_selection_counts_what_each_rule_took_out_of_the_first_places() -> None:
    image = angles(0, 1, 2, 30, 40, 50, 60, 80)  # 1 and 2 are copies of 0 for the image
    text = angles(0, 30, 30, 20, 20, 20, 20, 20)
    group = np.array([1, 2, 3, 4, 1, 5, 6, 7])  # 4 shares its caption with 0
    pairs = open_pairs(image, text, text_group=group)
    everyone = [*range(8), -1]
    found = ranked(everyone, pairs, depth=2)
    assert found.rows.tolist() == [[3, 5]]
    assert found.removed == dict.fromkeys(COUNTED, 0) | {"near_duplicate_image": 2, "group_text": 1}
    assert found.scores[0, 0] == np.float32(np.cos(np.deg2rad(30)) * np.cos(np.deg2rad(20)))
    np.testing.assert_allclose(found.scores_image[0], np.cos(np.deg2rad([30, 50])), rtol=1e-7)
    np.testing.assert_allclose(found.scores_text[0], np.cos(np.deg2rad([20, 20])), rtol=1e-7)
    assert ranked(everyone, pairs, depth=1).removed["group_text"] == 0  # it would rank after the last one kept
    skipped = ranked(everyone, pairs, depth=2, skip_first=1)
    assert skipped.rows.tolist() == [[5, 6]] and skipped.removed["skip_first"] == 1
    short = ranked(everyone, pairs, depth=9)
    assert short.rows.tolist() == [[3, 5, 6, 7, -1, -1, -1, -1, -1]]
    assert short.scores[0, 4:].tolist() == [0] * 5 and short.removed["group_text"] == 1
    assert ranked([7, -1], pairs, depth=3, skip_first=2).removed["skip_first"] == 1
    assert ranked([7, -1], pairs, depth=3, skip_first=2).rows.tolist() == [[-1, -1, -1]]


def test_a_score_equal_to_the_last_kept_one_was_not_taken_out() -> None:
    """Rows 1 and 2 are equal vectors; the caption group forbids one of them."""
    pairs = open_pairs(angles(0, 30, 30, 60), angles(0, 30, 30, 60), text_group=np.array([1, 2, 1, 3]))
    assert ranked([1, 2, 3], pairs, depth=1).removed["group_text"] == 0
    assert ranked([1, 2, 3], pairs, depth=2).removed["group_text"] == 1


def test_invalid_rows_and_the_target_itself_are_never_partners() -> None:
    valid = np.array([True, True, False, True])
    pairs = open_pairs(angles(0, 20, 30, 40), angles(0, 20, 30, 40), valid=valid)
    assert ranked([3, 2, 1, 0, -1], pairs, depth=3).rows.tolist() == [[1, 3, -1]]
    assert ranked([3, 1, 0], pairs, target=2, depth=3).rows.tolist() == [[-1, -1, -1]]


def test_equal_scores_keep_the_lower_row_first_whatever_order_they_come_in() -> None:
    pairs = open_pairs(angles(0, *[30] * 40), angles(0, *[30] * 40))
    found = ranked([*range(40, 0, -1)], pairs, depth=7)
    assert found.rows.tolist() == [[1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("modality", ["image_group", "text_group"])
def test_a_crowd_of_forbidden_copies_pushes_no_partner_out(monkeypatch, modality) -> None:
    """Many more rows than the depth score higher than every allowed row: they must not make a threshold."""
    monkeypatch.setattr("helip.mining.sweep.BLOCK", 128)
    image, text = clustered(500, 16, 12, seed=5)
    image[::2] = image[0] + 0.05 * image[::2]
    text[::2] = text[0] + 0.05 * text[::2]
    groups: dict[str, Any] = {modality: np.where(np.arange(500) % 2, -1, 7)}
    settings = SearchSettings(depth=10, near_duplicate=1.0)
    found = ExactSearch(open_pairs(image, text, **groups), settings, dtype=torch.bfloat16).search(range(500))
    assert np.array_equal(found.rows, hard_pairs(image, text, 10, near_duplicate=1.0, **groups)[0])
