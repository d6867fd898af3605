"""Mining into a folder: bad input, resuming, ranks."""

import json

import numpy as np
import pytest

from benchmarks.synthetic import clustered
from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.mining.miner import mine, mine_hard_pairs
from helip.mining.reference import hard_pairs
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from tests.mining.results import mine_on_ranks, read_bytes


def test_public_function_equals_brute_force():
    image, text = clustered(300, 24, 16, seed=1)
    index = mine_hard_pairs(image, text, k=10)
    assert np.array_equal(index.rows, hard_pairs(image, text, 10)[0])
    assert index.meta["statistics"]["rows_short"] == 0
    assert json.dumps(index.meta)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 0}, "^k is 0.*at least 1"),
        ({"skip_first": -1}, "^skip_first is -1.*at least 0"),
        ({"k": 60}, "^k=60.*1 to 59.*60 rows"),
        ({"image": np.ones((59, 4))}, "59 image embeddings but 60 text"),
        ({"image": np.full((60, 4), np.nan)}, "image embedding of row 0 holds NaN"),
        ({"text": np.zeros((60, 4))}, "text embedding of row 0 is zero"),
        ({"text": np.ones((60, 4), int)}, "2-D float"),
        ({"score": "sum"}, "score=sum is unknown"),
        ({"near_duplicate": 0.2, "min_similarity": 0.3}, "no pair meets"),
        ({"near_duplicate": (0.2, 0.3, 0.4)}, "must be one number or"),
        ({"valid": np.ones(3, bool)}, "60 booleans"),
    ],
)
def test_bad_input_is_one_sentence(change, words):
    rng = np.random.default_rng(0)
    arguments = {"image": rng.random((60, 4)), "text": rng.random((60, 4)), "k": 5} | change
    with pytest.raises(HelipError, match=words):
        mine_hard_pairs(**arguments)


def test_same_bytes_on_three_ranks_as_on_one(tmp_path):
    pairs = open_pairs(*clustered(500, 24, 16, seed=2))
    mine(pairs, tmp_path / "one", SearchSettings(depth=10), progress=False)
    settings = SearchSettings(depth=10, block_rows=64)
    mine_on_ranks(3, pairs, tmp_path / "three", settings)
    assert read_bytes(tmp_path / "one") == read_bytes(tmp_path / "three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three"]


def test_finished_blocks_are_not_computed_again(tmp_path, monkeypatch):
    pairs = open_pairs(*clustered(300, 24, 16, seed=3))
    settings = SearchSettings(depth=10, block_rows=50)
    mine(pairs, tmp_path / "whole", settings, progress=False)
    from helip.mining.exact import ExactSearch

    plain, seen = ExactSearch.search, []

    def search(self, rows, tick):
        seen.append(rows.start)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return plain(self, rows, tick)

    monkeypatch.setattr(ExactSearch, "search", search)
    with pytest.raises(KeyboardInterrupt):
        mine(pairs, tmp_path / "cut", settings, progress=False)
    mine(pairs, tmp_path / "cut", settings, progress=False)
    assert seen == [0, 50, 100, 150, 150, 200, 250]
    assert read_bytes(tmp_path / "whole") == read_bytes(tmp_path / "cut")
    assert HardPairIndex.load(tmp_path / "cut").meta["complete"] is True


def test_partial_results_of_other_data_are_not_used(tmp_path):
    image, text = clustered(300, 24, 16, seed=4)
    pairs, settings = open_pairs(image, text), SearchSettings(depth=10, block_rows=100)
    with pytest.raises(HelipError, match="start rank 0 first"):
        mine(pairs, tmp_path / "index", settings, rank=1, world_size=3, progress=False)
    with pytest.raises(HelipError, match="2 of 3 blocks"):
        mine(open_pairs(image[::-1], text), tmp_path / "index", settings, world_size=3, progress=False)
    mine(pairs, tmp_path / "index", settings, progress=False)
    mine(pairs, tmp_path / "plain", settings, progress=False)
    assert read_bytes(tmp_path / "index") == read_bytes(tmp_path / "plain")


def test_partial_results_under_other_groups_are_not_used(tmp_path):
    image, text = clustered(300, 24, 16, seed=5)
    settings, groups = SearchSettings(depth=10, block_rows=100), np.arange(300) % 7
    with pytest.raises(HelipError, match="2 of 3 blocks"):
        mine(open_pairs(image, text), tmp_path / "index", settings, world_size=3, progress=False)
    mine(open_pairs(image, text, text_group=groups), tmp_path / "index", settings, progress=False)
    rows = np.asarray(HardPairIndex.load(tmp_path / "index").rows)
    assert not (groups[rows] == groups[:, None])[rows >= 0].any()
