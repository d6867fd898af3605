"""The approximate and the pool search: their results, and whether the stated recall is true."""

import numpy as np
import pytest

from benchmarks.synthetic import clustered
from helip.errors import HelipError
from helip.mining.estimate import choose
from helip.mining.miner import mine, mine_hard_pairs
from helip.mining.pool import draw_pool
from helip.mining.probe import interval, overlap
from helip.mining.reference import hard_pairs
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from tests.mining.results import mine_on_ranks, read_bytes


def true_recall(index, image, text, k, **more):
    truth = hard_pairs(image, text, k, **more)[0]
    return overlap(np.asarray(index.rows), truth).sum() / (truth >= 0).sum()


@pytest.mark.parametrize("score", ["joint", "image"])
def test_approximate_states_its_recall(score):
    image, text = clustered(4000, 32, 24, seed=1)
    index = mine_hard_pairs(image, text, k=10, score=score, backend="approximate", min_recall=0.95)
    stated = index.meta["statistics"]["recall"]
    assert 0.95 <= stated["low"] <= stated["value"] <= stated["high"]
    assert stated["low"] - 0.005 <= true_recall(index, image, text, 10, score=score) <= stated["high"] + 0.005
    assert index.meta["search"]["probes"] < index.meta["search"]["cells"] / 2


def test_approximate_scores_and_rules_are_exact():
    image, text = clustered(2000, 32, 24, seed=2)
    valid = np.random.default_rng(0).random(2000) > 0.05
    rules = {"near_duplicate": (0.97, 0.9), "min_similarity": 0.3}
    index = mine_hard_pairs(image, text, k=10, backend="approximate", min_recall=0.9, valid=valid, **rules)
    exact = mine_hard_pairs(image, text, k=2000 - 1, backend="exact", valid=valid, **rules)
    for row in range(0, 2000, 7):
        known = dict(zip(exact.rows[row].tolist(), exact.scores[row].tolist(), strict=True))
        live = index.rows[row] >= 0
        assert [known[r] for r in index.rows[row][live].tolist()] == index.scores[row][live].tolist()
    assert (index.rows[~valid] == -1).all()


def test_approximate_says_that_it_cannot():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 1500, 64)) + 0.5
    with pytest.raises(HelipError, match=r"cannot reach min_recall=0\.999"):
        mine_hard_pairs(noise[0], noise[1], k=10, backend="approximate", min_recall=0.999)


def test_approximate_gives_the_same_bytes_on_one_and_three_ranks(tmp_path):
    pairs = open_pairs(*clustered(2000, 24, 16, seed=3))
    rules = {"depth": 10, "backend": "approximate", "min_recall": 0.9}
    mine(pairs, tmp_path / "one", SearchSettings(**rules), progress=False)
    mine_on_ranks(3, pairs, tmp_path / "three", SearchSettings(**rules, block_rows=300))
    assert read_bytes(tmp_path / "one") == read_bytes(tmp_path / "three")


@pytest.mark.parametrize("redraw", [0, 130])
def test_pool_finds_the_best_of_its_pool(redraw):
    image, text = clustered(600, 24, 16, seed=4)
    settings = SearchSettings(depth=8, backend="pool", pool_size=150, pool_redraw=redraw)
    index = mine_hard_pairs(image, text, k=8, backend="pool", pool_size=150, pool_redraw=redraw, block_rows=100)
    pairs = open_pairs(image, text)
    for row in range(0, 600, 11):
        pool = draw_pool(pairs, settings, row // redraw if redraw else 0)
        some = np.union1d(pool, [row])
        found = hard_pairs(image[some], text[some], 8, targets=np.flatnonzero(some == row))[0][0]
        assert index.rows[row].tolist() == [some[j] if j >= 0 else -1 for j in found]
    statistics = index.meta["statistics"]
    assert statistics["expected_recall"] == 0.25
    assert (
        statistics["recall"]["low"] - 0.01 <= true_recall(index, image, text, 8) <= statistics["recall"]["high"] + 0.01
    )


def test_interval_covers_and_never_has_no_width():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        share = rng.beta(20, 1, 300)  # rows differ: mean 20 / 21
        found = rng.binomial(50, share)
        inside += (r := interval(found, np.full(300, 50))).low <= 20 / 21 <= r.high
    assert 0.92 <= inside / 300 <= 0.98
    whole = interval(np.full(100, 50), np.full(100, 50))
    assert whole.value == 1 and 0.999 < whole.low < 1


def test_auto_chooses_by_size_and_says_why():
    settings = SearchSettings()
    assert choose(settings, 37_490, 1664, None)[0] == "exact"
    backend, reason = choose(settings, 3_000_000, 1152, None)
    assert backend == "approximate" and "3,000,000 rows of width 1152 are 2.1e+16 operations" in reason


def test_auto_follows_the_rate_of_a_card_in_powers_of_two():
    settings = SearchSettings()
    at = {rate: choose(settings, 3_000_000, 1152, rate)[0] for rate in (700e12, 60e12, 20e12)}
    assert at == {700e12: "exact", 60e12: "exact", 20e12: "approximate"}
    same = {choose(settings, 9_000_000, 1152, rate) for rate in (600e12, 700e12, 800e12)}
    assert len(same) == 1 and "for this GPU" in same.pop()[1]
