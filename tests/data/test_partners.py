"""Partners of a target: uniform draws, only usable rows, outliers by their rule."""

import pickle

import numpy as np
import pytest

from helip.data.partners import MinedPartners, RandomPartners
from helip.errors import HelipError

# 99.9 % quantile of chi-square by degrees of freedom (scipy is no dependency)
CHI_SQUARE = {4: 18.47, 9: 27.88, 38: 70.70}


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def mined(rows, valid=None, p=1, outliers="drop", min_partners=1, seed=0) -> MinedPartners:
    rows = np.array(rows, np.int32)
    return MinedPartners(rows, np.ones(len(rows), bool) if valid is None else valid, p, seed, outliers, min_partners)


def ring(count=40, k=5) -> np.ndarray:
    """Row i has the hard pairs i + 1 ... i + k."""
    return (np.arange(count)[:, None] + np.arange(1, k + 1)) % count


def test_mined_partners_are_uniform_in_the_top_k() -> None:
    partners = mined(ring())
    drawn = [partners.draw(7, epoch)[0] for epoch in range(2000)]
    counts = np.array([drawn.count(row) for row in range(8, 13)])
    assert counts.sum() == 2000
    assert chi_square(counts) < CHI_SQUARE[4]


def test_padding_and_invalid_rows_are_never_drawn() -> None:
    rows = ring(20)
    rows[3, 2:] = -1
    valid = np.ones(20, bool)
    valid[[4, 9]] = False
    partners = mined(rows, valid)
    for row in np.flatnonzero(partners.eligible):
        allowed = {int(other) for other in rows[row] if other >= 0 and valid[other]}
        assert {partners.draw(int(row), epoch)[0] for epoch in range(60)} == allowed
        assert int(row) not in allowed
    assert not partners.eligible[[4, 9]].any()


def test_several_partners_are_distinct_and_attempts_go_on_to_the_others() -> None:
    partners = mined(ring(), p=2)
    for epoch in range(20):
        draws = [partners.draw(0, epoch, attempt) for attempt in range(4)]
        assert [len(rows) for rows in draws] == [2, 2, 1, 0]
        assert sorted(row for rows in draws for row in rows) == [1, 2, 3, 4, 5]


def test_a_draw_depends_on_seed_epoch_and_row_alone() -> None:
    partners = mined(ring())
    elsewhere = pickle.loads(pickle.dumps(partners))  # as a worker gets it
    visits = [(row, epoch) for epoch in range(3) for row in range(40)]
    backwards = {visit: elsewhere.draw(*visit) for visit in reversed(visits)}
    assert [partners.draw(*visit) for visit in visits] == [backwards[visit] for visit in visits]
    other_seed = mined(ring(), seed=1)
    assert [partners.draw(*visit) for visit in visits] != [other_seed.draw(*visit) for visit in visits]
    assert len({tuple(partners.draw(0, epoch)) for epoch in range(30)}) > 1  # redrawn at every visit


def test_mined_rows_are_sorted_with_the_padding_first() -> None:
    assert mined([[2, 1, -1], [0, 2, -1], [0, 1, -1]]).mined(0).tolist() == [-1, 1, 2]


OUTLIER = [[1, 2], [0, 2], [0, 1], [-1, -1], [0, -1]]  # row 3 has no hard pair


def test_outliers_are_dropped_from_the_order_or_get_a_filler() -> None:
    dropped = mined(OUTLIER, outliers="drop")
    assert np.flatnonzero(dropped.outlier).tolist() == [3]
    assert dropped.eligible.tolist() == [True, True, True, False, True]
    for outliers in ("random", "keep"):
        partners = mined(OUTLIER, outliers=outliers)
        assert partners.eligible.all()
        assert partners.draw(3, 0) == []
        assert {partners.filler(3, epoch) for epoch in range(60)} == {0, 1, 2, 4}


def test_min_partners_counts_live_partners() -> None:
    assert np.flatnonzero(mined(OUTLIER, min_partners=2).outlier).tolist() == [3, 4]
    valid = np.array([False, True, True, True, True])
    partners = mined(OUTLIER, valid, outliers="random")
    assert np.flatnonzero(partners.outlier).tolist() == [3, 4]  # row 0 was the only partner of row 4
    assert not partners.outlier[0]  # no target at all, so no outlier either


def test_dropping_more_than_half_is_an_error() -> None:
    rows = np.full((10, 3), -1)
    rows[:4, 0] = (np.arange(4) + 1) % 4
    with pytest.raises(HelipError, match=r"60% of the targets.*helip\.outliers=random"):
        mined(rows)
    assert mined(rows, outliers="random").outlier.sum() == 6
    rows[4, 0] = 0
    assert mined(rows).eligible.sum() == 5  # half is allowed


def test_an_index_is_counted_in_blocks(monkeypatch) -> None:
    rows = np.full((70_000, 2), -1, np.int32)
    rows[::2] = 1
    assert mined(rows, outliers="random").outlier.sum() == 35_000  # more than one block of 65,536


def test_random_partners_are_uniform_over_all_other_rows() -> None:
    """The control arm: 39 other live rows, each equally often, over epochs and over targets."""
    valid = np.ones(42, bool)
    valid[[5, 11]] = False
    partners = RandomPartners(valid, 1, seed=0)
    drawn = np.array([partners.draw(7, epoch)[0] for epoch in range(4000)])
    counts = np.bincount(drawn, minlength=42)
    assert counts[[5, 7, 11]].tolist() == [0, 0, 0]
    assert chi_square(np.delete(counts, [5, 7, 11])) < CHI_SQUARE[38]
    offsets = np.bincount([partners.draw(row, 0)[0] % 10 for row in range(4000, 8000)], minlength=10)
    shares = np.bincount(np.flatnonzero(valid) % 10, minlength=10) / 40
    assert float(((offsets - 4000 * shares) ** 2 / (4000 * shares)).sum()) < CHI_SQUARE[9]


def test_several_random_partners_are_distinct() -> None:
    partners = RandomPartners(np.ones(6, bool), 5, seed=0)
    for epoch in range(50):
        assert sorted(partners.draw(2, epoch)) == [0, 1, 3, 4, 5]
    assert partners.mined(2).tolist() == [-1]


def test_too_few_rows_for_a_partner() -> None:
    with pytest.raises(HelipError, match=r"helip\.p=2 .*2 usable rows"):
        RandomPartners(np.array([True, True, False]), 2, seed=0)
