"""Pictures of a mining run, score histograms and in-degree; and the numbers of a training's metrics.csv.

Legend: N rows, K pairs stored per row.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from helip.artifacts.atomic import atomic_file
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.metrics_file import read_lines
from helip.errors import HelipError
from helip.report.captions import drawable
from helip.report.contact_sheet import FAINT, GREY, INK, SCORES
from helip.report.slices import known, slices

Columns = dict[str, tuple[list[int], list[float]]]  # metric -> steps and values
PALETTE = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")


def score_histograms(
    path: Path,
    index: HardPairIndex,
    limits: Mapping[str, tuple[float | None, float | None]] | None = None,
    title: str = "Scores of the hard pairs",
    bins: int = 80,
) -> Path:
    """One panel a score: all stored pairs as an area, the first pair of each row as a line, thresholds dashed.

    Args:
        path: the PNG to write.
        index: (N, K) rows and scores.
        limits: `image` and `text` -> (min_similarity, near_duplicate); None draws no line.
        title: heading.
        bins: number of bins of each panel.
    """
    figure, panels = _panels(3, 3, title)
    scores = {"joint": index.scores, "image": index.scores_image, "text": index.scores_text}
    for axes, (name, values) in zip(panels, scores.items(), strict=True):
        edges, every, first = histograms(index.rows, values, bins)
        color = SCORES[name]
        axes.stairs(every, edges, fill=True, color=color, alpha=0.22, label=f"all {index.rows.shape[1]}")
        axes.stairs(first, edges, color=color, lw=1.6, label="first pair")
        axes.set(xlabel=f"{name} score", ylabel="share of pairs" if name == "joint" else "", ylim=(0, None))
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        for limit, what in zip((limits or {}).get(name, ()), ("min_similarity", "near_duplicate"), strict=False):
            if limit is not None:
                axes.axvline(limit, color="#dc2626", lw=1, ls="--")
                axes.annotate(
                    f"{what} {limit:g} ",
                    (limit, 0.97),
                    xycoords=("data", "axes fraction"),
                    rotation=90,
                    ha="right",
                    va="top",
                    fontsize=8,
                    color="#dc2626",
                    path_effects=[withStroke(linewidth=3, foreground="white")],
                )
    return _save(figure, path)


def histograms(rows: NDArray, scores: NDArray, bins: int) -> tuple[NDArray, NDArray, NDArray]:
    """Bin edges over the known scores, and the shares of all pairs and of the first pairs in each bin."""
    parts = list(slices(len(rows)))
    live = [known(rows[part], scores[part]) for part in parts]
    low = min((np.asarray(scores[p])[k].min() for p, k in zip(parts, live, strict=True) if k.any()), default=0.0)
    high = max((np.asarray(scores[p])[k].max() for p, k in zip(parts, live, strict=True) if k.any()), default=1.0)
    edges = np.linspace(min(0.0, float(low)), max(float(high), float(low) + 1e-6), bins + 1)
    every, first = np.zeros(bins), np.zeros(bins)
    for part, kept in zip(parts, live, strict=True):
        values = np.asarray(scores[part])
        every += np.histogram(values[kept], edges)[0]
        first += np.histogram(values[:, 0][kept[:, 0]], edges)[0]
    return edges, every / max(1, every.sum()), first / max(1, first.sum())


def in_degree(rows: NDArray) -> NDArray[np.int64]:
    """(N,) how often each row is a hard pair of another; a hub is chosen by many.

    Args:
        rows: (N, K) hard pairs, -1 padded.
    """
    counts = np.zeros(len(rows), np.int64)
    for part in slices(len(rows)):
        chosen = np.asarray(rows[part])
        counts += np.bincount(chosen[chosen >= 0], minlength=len(rows))
    return counts


def chosen_degrees(index: HardPairIndex) -> NDArray[np.int64]:
    """In-degree of the rows that take part: those that have or are a hard pair; all rows if none is."""
    degree = in_degree(index.rows)
    live = (np.asarray(index.rows[:, 0]) >= 0) | (degree > 0)
    return degree[live] if live.any() else degree


def hubness(path: Path, index: HardPairIndex, title: str = "How often a row is chosen as a hard pair") -> Path:
    """In-degree of all rows, against partners drawn at random; the text says how much the top 1 % of rows hold."""
    degree = chosen_degrees(index)
    total = max(1, degree.sum())
    random = np.random.default_rng(0).multinomial(degree.sum(), np.full(len(degree), 1 / len(degree)))
    figure, (axes,) = _panels(1, 1, title, width=6.4)
    for values, name, color in ((degree, "hard pairs", PALETTE[0]), (random, "random pairs", GREY)):
        axes.step(np.sort(values)[::-1], 100 * np.arange(1, len(values) + 1) / len(values), color=color, label=name)
    axes.set(xscale="symlog", yscale="log", xlabel="times chosen, or more often", ylabel="rows (%)", ylim=(None, 130))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    top = np.sort(degree)[::-1][: max(1, len(degree) // 100)].sum()
    note = (
        f"top 1 % of rows: {100 * top / total:.1f} % of all choices\nnever chosen: {100 * (degree == 0).mean():.1f} %"
    )
    axes.text(0.03, 0.05, note, transform=axes.transAxes, fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    return _save(figure, path)


def read_metrics(file: Path) -> Columns:
    """Steps and values of every column of a metrics.csv; an empty cell is no point.

    Raises:
        HelipError: there is no such file.
    """
    if not file.is_file():
        raise HelipError(f"{file} does not exist: give the metrics.csv of a run with logger=csv.")
    columns: Columns = {}
    for line in read_lines(file):
        for name, cell in line.items():
            if name not in ("step", "epoch"):
                with suppress(KeyError, ValueError):
                    point = int(line["step"]), float(cell)
                    steps, values = columns.setdefault(name, ([], []))
                    steps.append(point[0])
                    values.append(point[1])
    return columns


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
