"""Shares of pairs with the same label, compared with values derived by hand and by counting."""

import numpy as np
import pytest

from helip.report.labels import label_rates


def test_rates_worked_out():
    # Labels a a b b b. Hard pairs: 0 -> 1 (same), 2 (other); 2 -> 3 (same); rows 1, 3, 4 have none.
    rows = np.array([[1, 2], [-1, -1], [3, -1], [-1, -1], [-1, -1]])
    hard, random = got = label_rates(rows, ["a", "a", "b", "b", "b"])
    assert hard == pytest.approx(2 / 3)
    # Row 0 (two pairs): 1 of the 4 others is an a; row 2 (one pair): 2 of the 4 others are b.
    assert random == pytest.approx((2 * 1 / 4 + 2 / 4) / 3)
    assert got.ratio == pytest.approx(2.0)


def test_rows_that_cannot_be_drawn_or_have_no_label_are_left_out():
    rows = np.array([[1, 2, 4], [0, 3, -1], [0, -1, -1], [0, 1, -1], [0, -1, -1]])
    labels, valid = ["a", "a", "b", "", "a"], np.array([True, True, True, True, False])
    # Usable rows: 0 1 2. Pairs: 0-1 same, 0-2 other, 1-0 same, 2-0 other (3 has no label, 4 is not valid).
    hard, random = label_rates(rows, labels, valid)
    assert hard == pytest.approx(2 / 4)
    # 0 (two pairs) and 1 (one): one of two others is an a; 2 (one pair): none of the others is a b.
    assert random == pytest.approx((2 * 1 / 2 + 1 / 2 + 0) / 4)


def test_random_is_the_expectation_of_drawn_partners():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 60).astype(str)
    others = np.array([[j for j in range(60) if j != i] for i in range(60)])
    hard, random = label_rates(others, label)  # every other row is a pair of every row: both shares are one number
    assert hard == pytest.approx(random)


def test_nothing_labelled():
    got = label_rates(np.array([[1], [0]]), ["", ""])
    assert np.isnan(got.hard) and np.isnan(got.random) and np.isnan(got.ratio)
