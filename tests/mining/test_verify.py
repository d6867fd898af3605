"""Verification of the indexes of every backend, and of indexes with wrong entries."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.synthetic import clustered
from helip.artifacts.hard_pairs import HardPairIndex
from helip.mining.miner import mine_hard_pairs
from helip.mining.vectors import Pairs, open_pairs
from helip.mining.verify import check_form, check_sample

ROWS = 600
RULES = {"near_duplicate": (0.95, 0.9), "min_similarity": 0.1}


@pytest.fixture(scope="module")
def made() -> tuple[HardPairIndex, Pairs]:
    image, text = clustered(ROWS, 24, 16, seed=3)
    image[5], text[7] = image[4], text[6]  # copies, whose similarities tie
    valid = np.ones(ROWS, bool)
    valid[::50] = False
    return mine_hard_pairs(image, text, 12, valid=valid, **RULES), open_pairs(image, text, valid=valid)


def problems(index: HardPairIndex, pairs: Pairs) -> list[str]:
    return check_form(index, pairs.valid) + check_sample(index, pairs, np.arange(ROWS)).problems


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"score": "text"},
        {"score": "image", "near_duplicate": 1.0},
        {"skip_first": 3},
        {"min_similarity": (0.6, 0.5)},
        {"backend": "pool", "pool_size": 200},
        {"backend": "approximate", "min_recall": 0.9},
    ],
)
def test_what_was_mined_passes(more: dict) -> None:
    image, text = clustered(ROWS, 24, 16, seed=3)
    image[5], text[7] = image[4], text[6]
    index, pairs = mine_hard_pairs(image, text, 12, **(RULES | more)), open_pairs(image, text)
    assert problems(index, pairs) == []
    recall = check_sample(index, pairs, np.arange(ROWS)).recall
    assert recall == 1 if more.get("backend") is None else 0.1 < recall <= 1


def test_invalid_rows_take_no_part(made) -> None:
    assert problems(*made) == []
    index, pairs = made
    assert check_sample(index, pairs, np.arange(ROWS)).rows == ROWS - ROWS // 50


def tampered(index: HardPairIndex, name: str, row: int, column: int, value: float) -> HardPairIndex:
    array = np.array(getattr(index, name))
    array[row, column] = value
    return replace(index, **{name: array})


@pytest.mark.parametrize(
    ("name", "column", "value", "sentence"),
    [
        ("rows", 0, 17, "are their own partner, the first is row 17"),
        ("rows", 3, ROWS, "have partners outside of 0 to 599"),
        ("rows", 3, -2, "have partners outside of 0 to 599"),
        ("rows", 3, -1, "have a partner after the end of their list"),
        ("rows", 3, 50, "have a partner that is not usable"),
        ("scores", 0, 0.0, "have scores that are not positive"),
        ("scores", 0, np.nan, "have scores that are not positive"),
        ("scores", 11, 0.99, "have scores that rise"),
    ],
)
def test_a_form_that_no_index_has(made, name: str, column: int, value: float, sentence: str) -> None:
    index, pairs = made
    (first, *_) = check_form(tampered(index, name, 17, column, value), pairs.valid)
    assert sentence in first


def test_the_same_partner_twice_and_partners_of_an_unusable_row(made) -> None:
    index, pairs = made
    twice = tampered(index, "rows", 17, 3, index.rows[17, 4])
    assert "the same partner twice, the first is row 17" in check_form(twice, pairs.valid)[0]
    valid = pairs.valid.copy()
    valid[17] = False
    assert "1 rows have partners although they are not usable" in check_form(index, valid)[0]


def test_every_single_wrong_partner_is_found(made) -> None:
    """Each partner in turn is replaced by a row that is not among the target's hard pairs."""
    index, pairs = made
    for column in range(12):
        other = next(r for r in range(ROWS) if pairs.valid[r] and r != 17 and r not in index.rows[17])
        wrong = tampered(index, "rows", 17, column, other)
        found = check_sample(wrong, pairs, np.array([17])).problems
        assert any("are not those of the embeddings" in one for one in found)
        assert any("harder pairs are missing: 1 of 1 rows, such as row 17" in one for one in found)


@pytest.mark.parametrize("name", ["scores", "scores_image", "scores_text"])
def test_a_wrong_score_is_found(made, name: str) -> None:
    index, pairs = made
    wrong = tampered(index, name, 17, 2, float(getattr(index, name)[17, 2]) - 3e-6)
    (one,) = check_sample(wrong, pairs, np.arange(ROWS)).problems
    assert one.startswith(f"{name} are not those") and f"row 17 with {index.rows[17, 2]}" in one


def test_other_rules_or_embeddings_than_it_names(made) -> None:
    index, pairs = made
    strict = replace(index, meta=index.meta | {"settings": index.meta["settings"] | {"near_duplicate": [0.5, 0.5]}})
    assert any("breaks a rule" in one for one in problems(strict, pairs))
    loose = replace(index, meta=index.meta | {"settings": index.meta["settings"] | {"near_duplicate": [1, 1]}})
    assert any("harder pairs are missing" in one for one in problems(loose, pairs))
    turned = open_pairs(np.roll(pairs.image.array, 1, axis=0), pairs.text.array, valid=pairs.valid)
    assert len(check_sample(index, turned, np.arange(ROWS)).problems) >= 3


def test_groups_keep_copies_apart() -> None:
    image, text = clustered(ROWS, 24, 16, seed=3)
    group = np.arange(ROWS) // 3
    pairs = open_pairs(image, text, image_group=group)
    index = mine_hard_pairs(image, text, 12, near_duplicate=1.0)
    assert any("breaks a rule" in one for one in problems(index, pairs))
