"""Means and intervals against hand values and tables of Student's t."""

from pathlib import Path

import pytest
from PIL import Image

from experiments.intervals import estimate, interval_plot, students_t

# two-sided 5 %, from printed tables, by degrees of freedom
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 7: 2.365, 8: 2.306, 10: 2.228, 15: 2.131, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize("freedom", TABLE)
def test_students_t(freedom: int) -> None:
    assert students_t(freedom + 1) == pytest.approx(TABLE[freedom], abs=5e-4)


def test_students_t_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    assert max(abs(students_t(count) - stats.t.ppf(0.975, count - 1)) for count in range(2, 100)) < 1e-9


def test_mean_and_interval() -> None:
    """Mean 22, standard deviation 2, t(2) = 4.303: 4.303 * 2 / sqrt(3) = 4.97."""
    assert estimate([20.0, 22.0, 24.0]).text() == "22.00 ± 4.97"
    assert estimate([-1.0, 2.0]).text("+") == "+0.50 ± 19.06"  # 12.706 * 2.1213 / sqrt(2)
    assert estimate([3.0]).text() == "3.00" and estimate([3.0]).half is None


def test_the_plot_has_a_panel_for_each_metric(tmp_path: Path) -> None:
    curve = {str(k): estimate([k / 10, k / 10 + 1]) for k in (1, 5, 50)}
    one = interval_plot(tmp_path / "one.png", {"a (%)": {"joint": curve}}, "A title", "helip.topk", {"a (%)": 0.5})
    arms = {"": {"joint": estimate([1.0, 2.0]), "off": estimate([3.0])}}
    two = interval_plot(tmp_path / "two.png", {"a": arms, "b": arms}, "A title")
    with Image.open(one) as single, Image.open(two) as double:
        assert double.width == 2 * single.width and double.height == single.height
        assert len(single.convert("L").getcolors() or []) > 20  # not an empty picture
