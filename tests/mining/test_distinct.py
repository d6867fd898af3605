"""Of rows with the same image and caption bytes a target gets only the lowest, by every way to search."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.synthetic import clustered
from helip.errors import HelipError
from helip.mining.distinct import copies_of, pair_ids
from helip.mining.exact import ExactSearch
from helip.mining.miner import mine
from helip.mining.reference import hard_pairs
from helip.mining.reuse import reuse
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from helip.mining.verify import check_form, check_sample
from tests.mining.results import read_bytes

COUNT = 400


def copied(seed: int, apart: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, mostly of copies, and the groups of their images and captions.

    Args:
        apart: size of the differences between embeddings of the same bytes, as between batches.
    """
    rng = np.random.default_rng(seed)
    image, text = clustered(COUNT, 24, 16, seed=seed)
    kind = np.where(rng.random(COUNT) < 0.25, np.arange(COUNT), rng.integers(0, 40, COUNT))  # crowds, and rows alone
    caption = np.where(rng.random(COUNT) < 0.2, rng.integers(0, COUNT, COUNT), kind)  # one picture, other captions
    image, text = image[kind], text[caption]
    image = image + apart * rng.normal(size=image.shape).astype(image.dtype)
    return image, text, kind, np.where(rng.random(COUNT) < 0.05, -1, caption)


def plain(
    image: np.ndarray, text: np.ndarray, ids: np.ndarray, valid: np.ndarray, k: int, skip: int, **rules: Any
) -> tuple[np.ndarray, int]:
    """(N, k) partners by the definition: the whole ranking of each row, without copies; and the number of copies."""
    ranking = hard_pairs(image, text, COUNT - 1, valid=valid, **rules)[0]
    found, struck = np.full((COUNT, k), -1), 0
    for target in np.flatnonzero(valid):
        lowest: dict[int, int] = {}
        sizes = Counter(int(ids[row]) for row in range(COUNT) if valid[row] and row != target)
        for row in range(COUNT):
            if valid[row] and row != target and ids[row] >= 0:
                lowest.setdefault(int(ids[row]), row)
        left = [r for r in ranking[target].tolist() if r >= 0 and (ids[r] < 0 or lowest[int(ids[r])] == r)]
        left = left[skip : skip + k]
        found[target, : len(left)] = left
        struck += sum(sizes[int(ids[r])] - 1 for r in left if ids[r] >= 0)
    return found, struck


CASES: list[dict[str, Any]] = [
    {},
    {"score": "text", "skip": 3},
    {"score": "image", "near_duplicate": 1.0},
    {"near_duplicate": 1.0, "skip": 2},
    {"near_duplicate": 1.0, "groups": False},
    {"near_duplicate": 1.0, "groups": False, "score": "image", "skip": 1},
    {"groups": False, "min_similarity": 0.3},
    {"near_duplicate": 1.0, "groups": False, "apart": 1e-3},
    {"apart": 1e-2},
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["kept", "made again"])
def test_only_the_lowest_of_the_same_bytes(monkeypatch, case, dtype, memory):
    monkeypatch.setattr("helip.mining.sweep.BLOCK", 128)
    rules, seed = dict(case), CASES.index(case)
    skip, apart, grouped = (rules.pop(n, d) for n, d in (("skip", 0), ("apart", 0.0), ("groups", True)))
    image, text, image_group, text_group = copied(seed, apart)
    valid = np.random.default_rng(seed).random(COUNT) > 0.1
    ids = pair_ids(image_group, text_group)
    groups: dict[str, Any] = {"image_group": image_group, "text_group": text_group} if grouped else {}
    settings = SearchSettings(depth=12, skip_first=skip, memory=memory, **rules)
    pairs = open_pairs(image, text, valid=valid, pair_group=ids, **groups)
    found = ExactSearch(pairs, settings, dtype=dtype).search(range(COUNT))
    rows, struck = plain(image, text, ids, valid, 12, skip, **rules, **groups)
    assert np.array_equal(found.rows, rows)
    assert found.removed["distinct"] == struck > 0
    defined = hard_pairs(image, text, 12, valid=valid, skip_first=skip, pair_group=ids, **rules, **groups)
    assert np.array_equal(rows, defined[0])


def test_lists_are_shorter_of_copies_and_not_of_partners():
    """By hand: 0 and 3 are copies, 1, 2 and 5 too, 4 is alone."""
    ids = np.array([7, 9, 9, 7, -1, 9])
    vectors = np.random.default_rng(0).random((6, 4)) + 1
    pairs = open_pairs(vectors[[0, 1, 1, 0, 4, 1]], vectors[[0, 1, 1, 0, 4, 1]], pair_group=ids)
    found = ExactSearch(pairs, SearchSettings(depth=5, near_duplicate=1.0)).search(range(6))
    lists = [sorted(int(r) for r in line if r >= 0) for line in found.rows]
    assert lists == [[1, 3, 4], [0, 2, 4], [0, 1, 4], [0, 1, 4], [0, 1], [0, 1, 4]]
    assert found.removed["distinct"] == 2 + (1 + 1) + (1 + 1) + 2 + (1 + 2) + (1 + 1)


def test_targets_with_too_many_survivors(set_room):
    """They are rescored against all rows, which include copies."""
    set_room(13)
    image, text, image_group, text_group = copied(3, 1e-2)
    ids, valid = pair_ids(image_group, text_group), np.ones(COUNT, bool)
    pairs = open_pairs(image, text, pair_group=ids)
    found = ExactSearch(pairs, SearchSettings(depth=12), dtype=torch.bfloat16).search(range(COUNT))
    assert found.redone > 0
    assert np.array_equal(found.rows, plain(image, text, ids, valid, 12, 0)[0])


@pytest.mark.parametrize("more", [{}, {"backend": "approximate", "min_recall": 0.9}, {"backend": "pool"}], ids=str)
def test_every_backend_into_a_folder(tmp_path, more):
    image, text, image_group, text_group = copied(5)
    ids = pair_ids(image_group, text_group)
    settings = SearchSettings(depth=10, **({"pool_size": 90} if more.get("backend") == "pool" else {}), **more)
    pairs = open_pairs(image, text, pair_group=ids)
    index = mine(pairs, tmp_path / "index", settings, progress=False)
    assert check_form(index, pairs.valid) == []
    assert check_sample(index, pairs, np.arange(COUNT)).problems == []
    assert index.meta["groups"] == ["pair_group"] and index.meta["statistics"]["removed_from_first"]["distinct"] > 0
    for line in np.asarray(index.rows):
        same = ids[line[line >= 0]]
        assert len(set(same[same >= 0])) == (same >= 0).sum()


def test_verify_names_copies(tmp_path):
    image, text, image_group, text_group = copied(5)
    index = mine(open_pairs(image, text), tmp_path / "index", SearchSettings(depth=10), progress=False)
    pairs = open_pairs(image, text, pair_group=pair_ids(image_group, text_group))
    problems = check_sample(index, pairs, np.arange(COUNT)).problems
    assert any("a partner breaks a rule of the index" in one for one in problems)


@pytest.mark.parametrize("depth", [20, 8])
def test_reuse_of_an_index_with_copies_gives_the_bytes_of_mining_afresh(tmp_path, depth):
    image, text, image_group, text_group = copied(7)
    pairs = open_pairs(image, text, pair_group=pair_ids(image_group, text_group))
    old = mine(open_pairs(image, text), tmp_path / "old", SearchSettings(depth=20), progress=False)
    settings = SearchSettings(depth=depth)
    made = reuse(old, pairs, tmp_path / "reused", settings, progress=False)
    mine(pairs, tmp_path / "fresh", settings, progress=False)
    assert read_bytes(tmp_path / "reused") == read_bytes(tmp_path / "fresh")
    assert made.meta["statistics"]["removed_from_stored"]["distinct"] > 0
    with pytest.raises(HelipError, match=r"no copies of partners \(helip.distinct=true\)"):
        reuse(made, open_pairs(image, text), tmp_path / "looser", settings, progress=False)


def test_data_without_copies_are_searched_as_ever():
    assert copies_of(np.array([3, -1, -1, 4]), np.ones(4, bool)) is None
    assert copies_of(np.array([3, 3, -1, 4]), np.array([True, False, True, True])) is None
    assert copies_of(np.empty(0, np.int64), np.empty(0, bool)) is None


def test_two_digests_make_one_number():
    image, text = np.array([1, 1, 2, 1, -1, 2]), np.array([5, 5, 5, 6, 5, -1])
    ids = pair_ids(image, text).tolist()
    assert ids[0] == ids[1] and len(set(ids[:4])) == 3 and min(ids[:4]) >= 0 and ids[4:] == [-1, -1]
