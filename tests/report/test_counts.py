"""The counts of a mining report, for slices of different sizes."""

import numpy as np
import pytest

from helip.artifacts.hard_pairs import HardPairIndex
from helip.report import counts


@pytest.fixture
def index():
    rng = np.random.default_rng(0)
    rows = rng.integers(-1, 50, (50, 6)).astype(np.int32)
    scores = np.where(rows >= 0, rng.uniform(-0.1, 1, rows.shape), 0).astype(np.float32)
    return HardPairIndex(rows, scores, scores, scores, {})


@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
def test_in_degree_and_histograms_by_slices(monkeypatch, index, rows_at_once):
    monkeypatch.setattr(counts, "SLICE", rows_at_once)
    live = index.rows[index.rows >= 0]
    assert counts.in_degree(index.rows).tolist() == [int((live == row).sum()) for row in range(50)]
    edges, every, first = counts.histograms(index.rows, index.scores, 9)
    values = index.scores[index.rows >= 0]
    assert (edges[0], edges[-1]) == (pytest.approx(values.min()), pytest.approx(values.max()))
    assert every == pytest.approx(np.histogram(values, edges)[0] / len(values))
    leading = index.scores[:, 0][index.rows[:, 0] >= 0]
    assert first == pytest.approx(np.histogram(leading, edges)[0] / len(leading))


def test_unknown_scores_have_no_place_in_a_histogram(index):
    half = np.where(np.arange(50)[:, None] < 25, index.scores, np.nan)
    expected = counts.histograms(index.rows[:25], index.scores[:25], 9)
    for got, want in zip(counts.histograms(index.rows, half, 9), expected, strict=True):
        assert got == pytest.approx(want)
