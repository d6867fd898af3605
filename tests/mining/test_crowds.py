"""Crowds of copies: pairs that the rules surely forbid are dropped, and no others."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.crowds import with_crowd
from benchmarks.synthetic import clustered
from helip.mining.crowds import Crowds
from helip.mining.exact import ExactSearch
from helip.mining.miner import mine_hard_pairs
from helip.mining.reference import hard_pairs, unit64
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs

COUNT = 1500
CROWDS: dict[str, dict[str, Any]] = {
    "one picture": {"near_duplicate": 0.98},
    "one caption": {"near_duplicate": 0.98},
    "one picture by its group alone": {"near_duplicate": 1.0},
    "one caption by its group alone": {"near_duplicate": 1.0},
    "one picture under few captions": {"near_duplicate": 0.98},
    "nearly one picture": {"near_duplicate": 0.9},
}


def crowded(kind: str, share: float = 0.3) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Embeddings and groups; a share of the rows is a crowd."""
    image, text = clustered(COUNT, 40, 24, seed=1, copies=0.0)
    side = text if "caption by" in kind or kind == "one caption" else image
    copied, group = with_crowd(side, share)
    if kind == "nearly one picture":
        copied += np.random.default_rng(2).normal(size=copied.shape).astype(copied.dtype) * 0.01
        return copied, text, {}
    if kind == "one picture under few captions":
        rows = np.flatnonzero(group == 0)
        text[rows] = text[rows[np.arange(len(rows)) % 7]]
    named = {} if "group" not in kind else {"text_group" if side is text else "image_group": group}
    return (image, copied, named) if side is text else (copied, text, named)


@pytest.mark.parametrize("kind", CROWDS)
@pytest.mark.parametrize("score", ["joint", "image", "text"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_crowd_is_passed_by_and_nothing_else(monkeypatch, set_room, kind, score, dtype):
    set_room(200)
    monkeypatch.setattr("helip.mining.sweep.BLOCK", 256)
    image, text, groups = crowded(kind)
    settings = SearchSettings(depth=10, score=score, **CROWDS[kind])
    found = ExactSearch(open_pairs(image, text, **groups), settings, dtype=dtype).search(range(COUNT))
    plain = hard_pairs(image, text, 10, score, settings.near_duplicate, **groups)
    assert np.array_equal(found.rows, plain[0])
    # by one modality alone, rows near the crowd's picture tie with the whole crowd: these few are redone
    assert found.redone <= (100 if score in ("image", "text") else 0), "rows of the crowd were redone against all rows"


def test_the_statistics_count_the_copies_that_are_kept():
    image, text, _ = crowded("one picture")
    settings = SearchSettings(depth=10)
    crowd = np.flatnonzero((image == image[np.argmax((image == image[:, None]).all(2).sum(1))]).all(1))
    found = ExactSearch(open_pairs(image, text), settings, dtype=torch.float32).search_rows(crowd)
    assert 0 < found.removed["near_duplicate_image"] <= 64 * len(crowd)
    few, text, _ = crowded("one picture", share=0.02)  # 30 rows, all of which are kept and counted
    found = ExactSearch(open_pairs(few, text), settings, dtype=torch.float32).search(range(COUNT))
    x, y = (unit64(side) @ unit64(side).T for side in (few, text))
    raw = np.maximum(x, 0) * np.maximum(y, 0)
    copy = (x > 0.98) & ~np.eye(COUNT, dtype=bool)
    assert found.removed["near_duplicate_image"] == int((copy & (raw > found.scores[:, -1:])).sum())


@pytest.mark.parametrize("backend", ["approximate", "pool"])
def test_shortcuts_pass_crowds_by(backend):
    image, text, _ = crowded("one picture")
    index = mine_hard_pairs(image, text, k=10, backend=backend, min_recall=0.5, pool_size=1200)
    assert index.meta["statistics"]["redone"] == 0
    similar = unit64(image) @ unit64(image).T
    rows = np.asarray(index.rows)
    assert (np.take_along_axis(similar, np.maximum(rows, 0), axis=1)[rows >= 0] <= 0.98).all()


def test_a_target_keeps_its_first_copies_over_all_blocks():
    crowds = Crowds(3, 2, torch.device("cpu"))
    first = torch.tensor([0, 0, 0, 2, 2, 2]), torch.tensor([True, False, True, False, True, True])
    assert crowds.surplus(*first).tolist() == [False] * 6
    second = torch.tensor([0, 1, 1, 1, 2]), torch.tensor([True, True, True, True, False])
    assert crowds.surplus(*second).tolist() == [True, False, False, True, False]
    assert crowds.full.tolist() == [True, True, True] and not crowds.known
    crowds.look()
    assert crowds.known
