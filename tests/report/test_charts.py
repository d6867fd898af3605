"""Coordinates of lines, ticks and limits in the view box."""

import numpy as np
import pytest

from helip.report import charts
from helip.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    degree_chart,
    histogram_chart,
    line_chart,
    thinned,
)


def places(path):
    return [tuple(float(x) for x in pair.split(",")) for pair in path.strip("M").split("L")]


def test_a_line_spans_the_axes():
    chart = line_chart("loss", {3: ("run", ([0, 5, 10], [1.0, 3.0, 2.0]))})
    assert chart is not None
    (a, b, c), (line,) = places(chart.lines[0].path), chart.lines
    assert (a[0], b[0], c[0]) == (LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT)
    # The axis has 1.1 times the range of the values, so the lowest is 1/22 of the height above the floor.
    room = HEIGHT - TOP - BOTTOM
    assert a[1] == pytest.approx(HEIGHT - BOTTOM - room * 0.1 / 2.2, abs=0.1)
    assert b[1] == pytest.approx(TOP + room * 0.1 / 2.2, abs=0.1)
    assert (line.number, line.colour, line.dash) == (3, 3, "")
    assert [name for _, name in chart.x_ticks] == ["0", "2", "4", "6", "8", "10"]
    assert line.dots[1][2] == "run: 3 at 5"


def test_what_is_not_finite_is_no_point_and_nothing_is_no_chart():
    chart = line_chart("loss", {0: ("a", ([0, 1, 2], [1.0, float("nan"), 2.0])), 1: ("b", ([0], [float("inf")]))})
    assert chart is not None and [line.name for line in chart.lines] == ["a"]
    assert len(places(chart.lines[0].path)) == 2
    assert line_chart("loss", {0: ("a", ([0], [float("nan")]))}) is None


@pytest.mark.parametrize("value", [0.0, 1e-9, 3.0, -1e6])
def test_a_flat_line_and_a_single_point_lie_in_the_middle(value):
    chart = line_chart("x", {0: ("a", ([7], [value]))})
    assert chart is not None
    assert places(chart.lines[0].path) == [((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)]
    assert chart.y_range[0] < value < chart.y_range[1]


def test_thinning_keeps_ends_and_spikes():
    rng = np.random.default_rng(0)
    y = rng.normal(size=10_000)
    y[4321] = 100
    x, thin = thinned(np.arange(10_000), y, 100)
    assert len(x) <= 100 and (x[0], x[-1]) == (0, 9999) and thin.max() == 100 and thin.min() == y.min()
    assert (np.diff(x) > 0).all() and (thin == y[x.astype(int)]).all()


def test_lines_beyond_the_colours_are_dashed():
    chart = line_chart("x", {n: (str(n), ([0, 1], [n, n])) for n in range(20)})
    assert chart is not None
    assert len({(line.colour, line.dash) for line in chart.lines}) == 20


def test_histogram_shows_its_limits():
    edges, share = np.linspace(0.2, 0.8, 4), np.array([0.5, 0.25, 0.25])
    chart = histogram_chart("h", edges, {"all": share, "first": share[::-1]}, [(0.98, "near_duplicate 0.98")])
    assert chart.x_range == (0.2, 0.98)  # wide enough for the limit
    assert chart.limits == [(pytest.approx(WIDTH - RIGHT), "near_duplicate 0.98")]
    every, first = chart.lines
    assert every.area.endswith("Z") and not every.path and first.path and not first.area
    assert len(places(first.path)) == 6  # two corners a bin


def test_degrees_are_counted_at_least():
    # Of four rows all are chosen at least 0 times, two at least once, one 9 times: log10(9 + 1) is the right edge.
    chart = degree_chart("d", {0: ("hard", np.array([0, 1, 9, 0]))}, "times")
    room = HEIGHT - TOP - BOTTOM
    found = places(chart.lines[0].path)
    assert [x for x, _ in found] == pytest.approx(
        [WIDTH - RIGHT, LEFT + np.log10(2) * (WIDTH - LEFT - RIGHT), LEFT], abs=0.1
    )
    assert chart.y_range == (-1.0, 0.0)
    assert [y for _, y in found] == pytest.approx([TOP - room * np.log10(s) for s in (0.25, 0.5, 1)], abs=0.1)
    assert charts.degree_chart("d", {0: ("none", np.zeros(3, np.int64))}, "times").lines[0].path
