"""Stricter rules on an existing index give the bytes of a new search; looser rules are refused."""

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.synthetic import clustered
from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.mining.miner import mine
from helip.mining.reuse import reuse
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, open_pairs
from tests.mining.results import read_bytes

OLD = {"depth": 20, "near_duplicate": (0.95, 0.97), "min_similarity": 0.2}


@pytest.fixture(scope="module")
def mined(tmp_path_factory) -> tuple[Pairs, HardPairIndex]:
    pairs = open_pairs(*clustered(600, 24, 16, seed=1, copies=0.2))
    folder = tmp_path_factory.mktemp("mined") / "index"
    return pairs, mine(pairs, folder, SearchSettings(**OLD), progress=False)


@pytest.mark.parametrize(
    "change",
    [
        {"near_duplicate": (0.8, 0.9)},
        {"min_similarity": (0.4, 0.5)},
        {"skip_first": 3},
        {"depth": 7},
        {"depth": 15, "near_duplicate": 0.7, "min_similarity": 0.3, "skip_first": 2},
    ],
    ids=str,
)
def test_stricter_rules_give_the_bytes_of_mining_afresh(mined, tmp_path, change):
    pairs, index = mined
    settings = SearchSettings(**{**OLD, **change})
    made = reuse(index, pairs, tmp_path / "reused", settings, progress=False)
    mine(pairs, tmp_path / "fresh", settings, progress=False)
    assert read_bytes(tmp_path / "reused") == read_bytes(tmp_path / "fresh")
    assert json.dumps(made.meta)


def test_groups_are_a_stricter_rule(mined, tmp_path):
    pairs, index = mined
    groups: dict[str, Any] = {"image_group": np.arange(600) // 4, "text_group": np.arange(600) % 50}
    settings = SearchSettings(**OLD)
    grouped = open_pairs(pairs.image.array, pairs.text.array, **groups)
    made = reuse(index, grouped, tmp_path / "reused", settings, progress=False)
    mine(grouped, tmp_path / "fresh", settings, progress=False)
    assert read_bytes(tmp_path / "reused") == read_bytes(tmp_path / "fresh")
    assert made.meta["statistics"]["removed_from_stored"]["group_text"] > 0
    with pytest.raises(HelipError, match=r"pairs with the same (image|text)_group"):
        reuse(made, pairs, tmp_path / "looser", settings, progress=False)


def test_only_short_rows_are_searched(mined, tmp_path, monkeypatch):
    pairs, index = mined
    full = (np.asarray(index.rows) >= 0).all(axis=1)
    settings = SearchSettings(**{**OLD, "near_duplicate": (0.8, 0.9)})
    left = (np.asarray(index.rows) >= 0) & (index.scores_image <= 0.8) & (index.scores_text <= 0.9)
    seen = []
    from helip.mining.exact import ExactSearch

    plain = ExactSearch.search_rows
    monkeypatch.setattr(
        ExactSearch, "search_rows", lambda self, rows, tick: (seen.extend(rows.tolist()), plain(self, rows, tick))[1]
    )
    reuse(index, pairs, tmp_path / "reused", settings, progress=False)
    assert seen == np.flatnonzero(full & (left.sum(axis=1) < 20)).tolist() and 0 < len(seen) < 600


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"near_duplicate": (0.96, 0.97)}, "near_duplicate=0.96 for image is looser than the index's 0.95"),
        ({"min_similarity": (0.2, 0.1)}, "min_similarity=0.1 for text is looser"),
        ({"score": "image"}, "ranks by joint, not by image"),
        ({"depth": 21}, "stores 20 partners"),
    ],
)
def test_looser_rules_are_refused_with_the_reason(mined, tmp_path, change, reason):
    pairs, index = mined
    with pytest.raises(HelipError, match=reason):
        reuse(index, pairs, tmp_path / "reused", SearchSettings(**{**OLD, **change}), progress=False)
    assert not (tmp_path / "reused").exists()


def test_a_skipped_window_cannot_be_refiltered(mined, tmp_path):
    pairs, _ = mined
    skipped = mine(pairs, tmp_path / "skipped", SearchSettings(**OLD, skip_first=2), progress=False)
    for skip in (2, 0):
        with pytest.raises(HelipError, match=r"leaves out the first pairs of each row \(helip.skip_first=2\)"):
            reuse(skipped, pairs, tmp_path / "reused", SearchSettings(**OLD, skip_first=skip), progress=False)
