"""Charts as plain numbers for an inline SVG, which is sharp at any size and needs no library in the page.

All coordinates are in units of the view box (WIDTH x HEIGHT). The template draws them, and a script computes the values
under the pointer from the two linear axes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 34  # margins for tick labels
MOST = 300  # points of a line that are drawn; about one per pixel of a panel
COLOURS, DASHES = 8, ("", "6 3", "2 3", "8 3 2 3")  # the dash changes after each round of the colours
Marks = Sequence[tuple[float, str]]
Points = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Curve:
    """One line of a chart; `number` selects colour and dash, and identifies it in the legend."""

    name: str
    number: int
    path: str = ""
    dots: Sequence[tuple[float, float, str]] = ()
    area: str = ""

    @property
    def colour(self) -> int:
        return self.number % COLOURS

    @property
    def dash(self) -> str:
        return DASHES[self.number // COLOURS % len(DASHES)]


@dataclass(frozen=True)
class Chart:
    """A chart for the template; `x_range` and `y_range` are the values at the edges of the plotting area."""

    title: str
    x_label: str
    lines: Sequence[Curve]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: Marks
    y_ticks: Marks
    limits: Marks = field(default_factory=tuple)
    linear: bool = True
    unit: str = ""


def line_chart(title: str, series: Mapping[int, tuple[str, Points]], unit: str = "") -> Chart | None:
    """Lines over optimizer steps on linear axes; None if no point is finite.

    Args:
        title: heading.
        series: number of the line -> its name and points.
        unit: appended to values.
    """
    finite = {n: (name, _finite(points)) for n, (name, points) in series.items()}
    drawn = {n: (name, points) for n, (name, points) in finite.items() if len(points[0])}
    if not drawn:
        return None
    x_range = _range([points[0] for _, points in drawn.values()], 0.0)
    y_range = _range([points[1] for _, points in drawn.values()], 0.05)
    lines = []
    for number, (name, points) in drawn.items():
        xs, ys = thinned(*points)
        px, py = _place_x(xs, x_range), _place_y(ys, y_range)
        dots = [(x, y, f"{name}: {b:.4g}{unit} at {a:g}") for x, y, a, b in zip(px, py, xs, ys, strict=True)]
        lines.append(Curve(name, number, _path(px, py), dots if len(dots) <= 24 else ()))
    return Chart(title, "optimizer step", lines, x_range, y_range, *_ticks(x_range, y_range), unit=unit)


def histogram_chart(
    title: str,
    edges: NDArray,
    shares: Mapping[str, NDArray],
    limits: Marks = (),
    number: int = 0,
) -> Chart:
    """Shares (0..1) by bin: the first of `shares` as an area, the others as lines; `limits` are dashed verticals.

    Args:
        title: heading.
        edges: (bins + 1,) bounds of the bins.
        shares: name -> (bins,) share of the pairs in each bin.
        limits: values on the axis, and their names.
        number: colour.
    """
    values = [value for value, _ in limits]
    x_range = float(min([edges[0], *values])), float(max([edges[-1], *values]))
    room = 1.25 if limits else 1.06  # for the names of the limits
    y_range = 0.0, 100 * max(max((float(v.max()) for v in shares.values()), default=0.0), 1e-4) * room
    lines = []
    for place, (name, share) in enumerate(shares.items()):
        px = _place_x(np.repeat(edges, 2)[1:-1], x_range)
        py = _place_y(100 * np.repeat(share, 2), y_range)
        path = _path(px, py)
        floor = HEIGHT - BOTTOM
        area = f"{path}L{px[-1]:.1f},{floor}L{px[0]:.1f},{floor}Z" if place == 0 else ""
        lines.append(Curve(name, number, "" if area else path, (), area))
    placed = _placed(_place_x, x_range, limits)
    return Chart(title, "similarity", lines, x_range, y_range, *_ticks(x_range, y_range), placed, unit=" %")


def degree_chart(title: str, degrees: Mapping[int, tuple[str, NDArray]], x_label: str) -> Chart:
    """Share of rows that are chosen at least x times, on logarithmic axes.

    Args:
        title: heading.
        degrees: number of the line -> its name, and (N,) how often each row is chosen.
        x_label: under the axis.
    """
    most = max((int(values.max()) for _, values in degrees.values() if len(values)), default=1)
    count = max((len(values) for _, values in degrees.values()), default=1)
    x_range = 0.0, math.log10(max(most, 9) + 1)
    low = -math.ceil(math.log10(max(count, 10)))
    y_range = float(low), 0.0
    lines = []
    for number, (name, values) in degrees.items():
        found, first = np.unique(np.sort(values)[::-1] * -1, return_index=True)  # falling values, rows above each
        at_least = np.append(first[1:], len(values)) / max(1, len(values))
        px = _place_x(np.log10(1.0 - found), x_range)
        lines.append(Curve(name, number, _path(*thinned(px, _place_y(np.log10(at_least), y_range)))))
    x_marks = [0, *(step * 10**p for p in range(9) for step in (1, 3))]
    x_ticks = [(math.log10(mark + 1), f"{mark:,}") for mark in x_marks if math.log10(mark + 1) <= x_range[1]]
    y_ticks = [(p, f"{100 * 10.0**p:g}%") for p in range(0, low - 1, -1)]
    placed = _placed(_place_x, x_range, x_ticks), _placed(_place_y, y_range, y_ticks)
    return Chart(title, x_label, lines, x_range, y_range, *placed, linear=False)


def thinned(xs: ArrayLike, ys: ArrayLike, most: int = MOST) -> tuple[NDArray, NDArray]:
    """At most `most` points: first, last, and the lowest and highest of equal intervals, so that spikes stay."""
    x, y = np.asarray(xs, float), np.asarray(ys, float)
    if len(x) <= most:
        return x, y
    kept = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), most // 2 - 1):
        kept |= {int(part[y[part].argmin()]), int(part[y[part].argmax()])}
    order = np.array(sorted(kept))
    return x[order], y[order]


def _finite(points: Points) -> Points:
    x, y = np.asarray(points[0], float), np.asarray(points[1], float)
    good = np.isfinite(x) & np.isfinite(y)
    return x[good], y[good]  # pyright: ignore[reportReturnType]


def _range(values: Sequence[Sequence[float]], margin: float) -> tuple[float, float]:
    low, high = min(float(np.min(v)) for v in values), max(float(np.max(v)) for v in values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # a flat line lies in the middle
        room = abs(high) * 0.05 or 1.0
        return low - room, high + room
    return low - margin * (high - low), high + margin * (high - low)


def _place_x(values: NDArray, bounds: tuple[float, float]) -> NDArray:
    return LEFT + (values - bounds[0]) / (bounds[1] - bounds[0]) * (WIDTH - LEFT - RIGHT)


def _place_y(values: NDArray, bounds: tuple[float, float]) -> NDArray:
    return HEIGHT - BOTTOM - (values - bounds[0]) / (bounds[1] - bounds[0]) * (HEIGHT - TOP - BOTTOM)


def _path(px: NDArray, py: NDArray) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in zip(px, py, strict=True)) if len(px) else ""


def _placed(
    place: Callable[[NDArray, tuple[float, float]], NDArray],
    bounds: tuple[float, float],
    marks: Marks,
) -> Marks:
    """Coordinates and names of marks on an axis."""
    return [(float(place(np.array(value), bounds)), name) for value, name in marks]


def _ticks(x_range: tuple[float, float], y_range: tuple[float, float]) -> tuple[Marks, Marks]:
    """The ticks of two linear axes."""
    return _placed(_place_x, x_range, _nice(x_range, 5)), _placed(_place_y, y_range, _nice(y_range, 4))


def _nice(bounds: tuple[float, float], bins: int) -> Marks:
    """Round numbers inside the bounds, and their text."""
    ticks = MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10]).tick_values(*bounds)
    return [(float(tick), f"{tick + 0.0:.6g}") for tick in ticks if bounds[0] <= tick <= bounds[1]]
