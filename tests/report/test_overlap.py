"""The overlap of arms, compared with a plain count of sets."""

import numpy as np
import pytest

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report import counts
from helip.report.overlap import chance, overlaps


def arm(seed, n=50, k=6, fingerprint="f", missing=0.2):
    rng = np.random.default_rng(seed)
    rows = np.array([rng.permutation([j for j in range(n) if j != i])[:k] for i in range(n)], np.int32)
    for row in rows:
        row[rng.integers(0, k) if rng.random() < missing else k :] = -1
    zeros = np.zeros(rows.shape, np.float32)
    return HardPairIndex(rows, zeros, zeros, zeros, {"fingerprint": fingerprint})


@pytest.mark.parametrize("rows_at_once", [1, 8, 1000])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_against_a_plain_count(monkeypatch, rows_at_once, k):
    monkeypatch.setattr(counts, "SLICE", rows_at_once)
    arms = {"joint": arm(0), "image": arm(1), "text": arm(2)}
    found = overlaps(arms, k)
    for a, one in arms.items():
        for b, other in arms.items():
            shared = total = 0
            for mine, theirs in zip(one.rows[:, :k], other.rows[:, :k], strict=True):
                own = {int(j) for j in mine if j >= 0}
                shared += len(own & {int(j) for j in theirs if j >= 0})
                total += len(own)
            assert found[a, b] == pytest.approx(shared / total)


def test_by_hand():
    # Row 0: {1, 2} and {2, 3} share 2; row 1: {0} and nothing. The second arm has 2 of the 3 pairs' one.
    a, b = np.array([[1, 2], [0, -1]], np.int32), np.array([[3, 2], [-1, -1]], np.int32)
    zeros = np.zeros((2, 2), np.float32)
    found = overlaps(
        {"a": HardPairIndex(a, zeros, zeros, zeros, {}), "b": HardPairIndex(b, zeros, zeros, zeros, {})}, 2
    )
    assert found == {("a", "a"): 1.0, ("b", "b"): 1.0, ("a", "b"): 1 / 3, ("b", "a"): 1 / 2}


def test_chance_is_what_random_arms_share():
    arms = {"a": arm(3, 400, 8, missing=0), "b": arm(4, 400, 8, missing=0)}
    assert overlaps(arms, 8)["a", "b"] == pytest.approx(chance(8, 400), rel=0.3)
    assert chance(5, 1) == 1.0


def test_arms_of_other_data_and_of_less_depth_are_refused():
    with pytest.raises(HelipError, match="text was mined on other shards than joint"):
        overlaps({"joint": arm(0), "text": arm(1, fingerprint="g")}, 2)
    with pytest.raises(HelipError, match="topk=7"):
        overlaps({"joint": arm(0), "text": arm(1)}, 7)
