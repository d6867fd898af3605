"""Means with a 95 % interval over a few runs, and their plot.

The interval is Student's t of the mean; with one value there is none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from helip.artifacts.atomic import atomic_file
from helip.report.captions import drawable
from helip.report.contact_sheet import FAINT, GREY, INK

PALETTE = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")


@dataclass(frozen=True)
class Estimate:
    """A mean and half the width of its interval (None for a single value)."""

    values: tuple[float, ...]
    mean: float
    half: float | None

    def text(self, sign: str = "") -> str:
        """Such as `11.35 ± 0.85`; sign="+" for a difference."""
        return f"{self.mean:{sign}.2f}" + ("" if self.half is None else f" ± {self.half:.2f}")


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of at least one value, and its interval of this level."""
    count = len(values)
    half = students_t(count, level) * stdev(values) / math.sqrt(count) if count > 1 else None
    return Estimate(tuple(values), mean(values), half)


def students_t(count: int, level: float = 0.95) -> float:
    """Student's t for `count` >= 2 values, two-sided; by bisection of its distribution function."""
    low, high = 0.0, 1000.0  # 63.7 for two values at 99 %
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, count - 1) < level else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| < t): the finite series for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    power, total = freedom % 2, 0.0
    term = math.cos(angle) ** power
    while power <= freedom - 2:
        total += term
        term *= math.cos(angle) ** 2 * (power + 1) / (power + 2)
        power += 2
    series = math.sin(angle) * total
    return 2 / math.pi * (angle + series) if freedom % 2 else series


Series = Mapping[str, Mapping[str, Estimate]]  # line -> place on the x axis -> estimate


def interval_plot(
    path: Path,
    panels: Mapping[str, Series],
    title: str,
    xlabel: str = "",
    lines: Mapping[str, float] | None = None,
    line: str = "before",
) -> Path:
    """One panel a metric; each line's means with their intervals, single runs as faint dots.

    Positive numbers share a logarithmic axis and are joined; other places stand side by side.

    Args:
        path: the PNG to write.
        panels: heading -> series.
        title: of the figure.
        xlabel: what the places are.
        lines: heading -> a value to draw across its panel.
        line: what that value is.
    """
    figure, axes = _panels(len(panels), min(2, len(panels)), title, 5.2)
    for panel, (heading, series) in zip(axes, panels.items(), strict=True):
        places = list(dict.fromkeys(place for found in series.values() for place in found))
        numeric = len(places) > 1 and all((as_number(place) or 0) > 0 for place in places)
        positions = {place: float(place) if numeric else float(n) for n, place in enumerate(places)}
        for number, (label, found) in enumerate(series.items()):
            shift = 0.0 if numeric else 0.12 * (number - (len(series) - 1) / 2)
            _draw(
                panel,
                {positions[p] + shift: e for p, e in found.items()},
                number,
                label,
                numeric,
            )
        if heading in (lines or {}):
            panel.axhline((lines or {})[heading], color=GREY, lw=1, ls="--", label=line)
        if numeric:
            panel.set_xscale("log")
        else:
            panel.set_xlim(-0.5, len(places) - 0.5)
        panel.set_xticks(list(positions.values()), [drawable(place) for place in places])
        panel.minorticks_off()
        panel.set(xlabel=drawable(xlabel))
        panel.set_title(drawable(heading), fontsize=10, loc="left", color=INK)
    if axes[0].get_legend_handles_labels()[1]:
        axes[0].legend(frameon=False, fontsize=8)
    return _save(figure, path)


def _draw(panel: Axes, points: Mapping[float, Estimate], number: int, label: str, joined: bool) -> None:
    color, where = PALETTE[number % len(PALETTE)], sorted(points)
    beside = offset_copy(panel.transData, panel.figure, 6, 0, units="points")  # type: ignore[arg-type]
    for x in where:
        single = points[x].values if len(points[x].values) > 1 else ()
        panel.plot([x] * len(single), single, "o", color=color, ms=3.5, alpha=0.45, mew=0, transform=beside)
    panel.errorbar(
        where,
        [points[x].mean for x in where],
        [points[x].half or 0.0 for x in where],
        color=color,
        fmt="o-" if joined else "o",
        ms=5,
        lw=1.5,
        capsize=3,
        label=drawable(label) or None,
    )


def _panels(count: int, across: int, title: str, width: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A white figure of equal panels under one heading, without boxes."""
    down = -(-count // across)
    figure = Figure((width * across, 3.1 * down + 0.5), layout="constrained", facecolor="white")
    figure.suptitle(drawable(title), fontsize=13, fontweight="bold", x=0.01, ha="left", color=INK)
    panels = [figure.add_subplot(down, across, n + 1) for n in range(count)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=GREY, labelsize=8)
        axes.grid(color=FAINT, lw=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def _save(figure: Figure, path: Path) -> Path:
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160)
    return path


def as_number(text: str) -> float | None:
    """The number; None if the text is not one."""
    try:
        return float(text)
    except ValueError:
        return None
