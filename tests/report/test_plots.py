"""What is plotted is counted right; what is drawn is a picture without warnings."""

import warnings

import numpy as np
import pytest
from PIL import Image

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report import plots, slices


@pytest.fixture
def index():
    rng = np.random.default_rng(0)
    rows = rng.integers(-1, 50, (50, 6)).astype(np.int32)
    scores = np.where(rows >= 0, rng.uniform(-0.1, 1, rows.shape), 0).astype(np.float32)
    return HardPairIndex(rows, scores, scores, scores, {})


def width(path):
    with Image.open(path) as image:
        return image.width


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
def test_in_degree_and_histograms_by_slices(monkeypatch, index, rows_at_once):
    monkeypatch.setattr(slices, "SLICE", rows_at_once)
    live = index.rows[index.rows >= 0]
    assert plots.in_degree(index.rows).tolist() == [int((live == row).sum()) for row in range(50)]
    edges, every, first = plots.histograms(index.rows, index.scores, 9)
    values = index.scores[index.rows >= 0]
    assert (edges[0], edges[-1]) == (pytest.approx(values.min()), pytest.approx(values.max()))
    assert every == pytest.approx(np.histogram(values, edges)[0] / len(values))
    leading = index.scores[:, 0][index.rows[:, 0] >= 0]
    assert first == pytest.approx(np.histogram(leading, edges)[0] / len(leading))


def test_unknown_scores_have_no_place_in_a_histogram(index):
    half = np.where(np.arange(50)[:, None] < 25, index.scores, np.nan)
    expected = plots.histograms(index.rows[:25], index.scores[:25], 9)
    for got, want in zip(plots.histograms(index.rows, half, 9), expected, strict=True):
        assert got == pytest.approx(want)


def test_pictures_of_a_mining_run(tmp_path, index):
    limits = {"image": (0.5, 0.98), "text": (None, 0.98)}
    for path in (
        plots.score_histograms(tmp_path / "a" / "scores.png", index, limits, "日本 \ud800 $x$"),
        plots.hubness(tmp_path / "a" / "hubs.png", index),
    ):
        assert width(path) > 500


def test_pictures_of_an_empty_index(tmp_path):
    rows = np.full((3, 2), -1, np.int32)
    empty = HardPairIndex(rows, rows * 0.0, rows * 0.0, rows * 0.0, {})
    plots.score_histograms(tmp_path / "s.png", empty)
    plots.hubness(tmp_path / "h.png", empty)


CSV = "epoch,loss,step,test/t2i_recall@1\n0,3.5,0,\n0,2.5,10,\n,,10,0.25\n0,nan,20,\n"


def test_metrics_are_read_without_their_gaps(tmp_path):
    (tmp_path / "metrics.csv").write_text(CSV)
    columns = plots.read_metrics(tmp_path / "metrics.csv")
    assert set(columns) == {"loss", "test/t2i_recall@1"}
    assert columns["loss"][0] == [0, 10, 20] and columns["loss"][1][:2] == [3.5, 2.5]
    assert columns["test/t2i_recall@1"] == ([10], [0.25])


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(HelipError, match="does not exist"):
        plots.read_metrics(tmp_path / "nowhere.csv")
