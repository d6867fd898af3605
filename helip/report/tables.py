"""Tables as data, for rich and for Markdown, with numbers aligned to the right.

Legend: N rows, K pairs stored per row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from helip.artifacts.hard_pairs import HardPairIndex, live_counts
from helip.report.counts import has_scores, known, slices

FINE = 20_000  # bins for quartiles: an error of at most 1e-4 in a score, without sorting 300M numbers

RULES = {"group_image": "same image bytes", "group_text": "same caption", "distinct": "copies of a partner"}


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is the name of the line, the others are numbers.

    Attributes:
        styles: rich style of single cells by (line, column); only colours.
    """

    title: str
    headers: Sequence[str]
    lines: Sequence[Sequence[str]]
    styles: Mapping[tuple[int, int], str] | None = None

    def rich(self) -> RichTable:
        """The table for `rich.console.Console().print`."""
        table = RichTable(title=Text(self.title, "bold"), title_justify="left", box=box.SIMPLE_HEAD)
        for number, header in enumerate(self.headers):
            table.add_column(Text(header), justify="right" if number else "left", no_wrap=number > 0)
        for y, line in enumerate(self.lines):
            styles = self.styles or {}
            table.add_row(*(Text(cell, style=styles.get((y, x), "")) for x, cell in enumerate(line)))
        return table

    def markdown(self) -> str:
        """The table in GitHub's syntax, without the title, ending in a newline."""
        rows = [self.headers, ["---", *["---:"] * (len(self.headers) - 1)], *self.lines]
        return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def comparison(
    columns: Mapping[str, Mapping[str, float]],
    title: str = "Metrics",
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
) -> Table:
    """One line for each metric; every column except the first is followed by its difference to the first.

    Shares are printed in percent and their differences in percentage points, ranks unchanged; drift is a squared
    distance, times 100. Green is better.

    Args:
        columns: such as `{"before": metrics, "after": metrics}`; a metric that a column lacks is a dash.
        title: printed above.
        intervals: column -> metric -> (low, high) of the difference, printed in brackets after it.
    """
    (first, base), *others = columns.items()
    names = list(dict.fromkeys(name for metrics in columns.values() for name in metrics))
    differences = ["difference"] if len(others) == 1 else [f"{name} - {first}" for name, _ in others]
    headers = ["metric", first]
    for (column, _), difference in zip(others, differences, strict=True):
        headers += [column, difference]
    lines, styles = [], {}
    for y, name in enumerate(names):
        factor = 1 if name.endswith("_rank") else 100
        better = -1 if factor == 1 or name.startswith("drift/") else 1
        line = [f"{name} (%)" if factor == 100 else name, _number(base.get(name), factor)]
        for column, metrics in others:
            change = metrics[name] - base[name] if name in metrics and name in base else None
            interval = (intervals or {}).get(column, {}).get(name)
            bounds = f" [{', '.join(_number(bound, factor, '+') for bound in interval)}]" if interval else ""
            line += [_number(metrics.get(name), factor), _number(change, factor, sign="+") + bounds]
            if change:
                styles[y, len(line) - 1] = "green" if change * better > 0 else "red"
        lines.append(line)
    return Table(title, headers, lines, styles)


def _number(value: float | None, factor: float, sign: str = "") -> str:
    return "-" if value is None else f"{value * factor:{sign}.2f}"


def mining_tables(
    index: HardPairIndex, topk: int, valid: NDArray[np.bool_] | None = None, unreadable: int = 0
) -> list[Table]:
    """Tables of the scores, of rows with too few pairs, and of the pairs that each rule removed.

    Args:
        index: (N, K) all stored pairs; if no pair has a score there is no table of scores.
        topk: hard pairs per row that training uses, at most K.
        valid: (N,) rows that may have pairs; None: all.
        unreadable: number of rows besides these that could not be read.
    """
    statistics = index.meta.get("statistics", {})
    removed = statistics.get("removed_from_stored", statistics.get("removed_from_first", {}))
    tables = [score_table(index, topk)] if has_scores(index) else []
    counts = {"stored": int(index.counts().sum()), **{_rule(name): count for name, count in removed.items()}}
    lines = _shares(counts, sum(counts.values()))
    tables.append(shortage_table(index, topk, valid, unreadable))
    tables.append(Table("What each rule removed", ["rule", "pairs", "share"], lines))
    shares = dict(statistics.get("removed_share_of_pairs", {}))
    if sampled := shares.pop("sampled_pairs", 0):
        lines = [[_rule(name), f"{100 * share:.3f} %"] for name, share in shares.items()]
        title = f"Share of all pairs that each rule rules out ({sampled:,} sampled)"
        tables.append(Table(title, ["rule", "share"], lines))
    return tables


def _rule(name: str) -> str:
    return RULES.get(name, name.replace("_", " "))


def score_table(index: HardPairIndex, topk: int) -> Table:
    """Quartiles of each score over the first pairs, and over the first `topk` pairs."""
    lines = []
    kinds = {"joint": index.scores, "image": index.scores_image, "text": index.scores_text}
    for depth, which in {topk: f"first {topk}", 1: "first pair"}.items():
        for name, scores in kinds.items():
            quartiles = _quartiles(index.rows, scores, depth)
            lines.append([f"{name}, {which}", *(f"{value:.3f}" for value in quartiles)])
    return Table("Scores of the hard pairs", ["score", "min", "25 %", "median", "75 %", "max"], lines)


def _quartiles(rows: NDArray, scores: NDArray, depth: int) -> list[float]:
    """Minimum, quartiles and maximum of the scores of live pairs; NaN if there are none."""
    counts, low, high = np.zeros(FINE, np.int64), np.inf, -np.inf
    for part in slices(len(rows)):
        values = np.asarray(scores[part, :depth])
        live = values[known(rows[part, :depth], values)]
        counts += np.histogram(live, FINE, (-1, 1))[0]
        if len(live):
            low, high = min(low, float(live.min())), max(high, float(live.max()))
    if not counts.any():
        return [float("nan")] * 5
    bins = np.searchsorted(counts.cumsum(), np.array([0.25, 0.5, 0.75]) * counts.sum())
    middle = np.clip(-1 + (bins + 0.5) * 2 / FINE, low, high)
    return [low, *middle.tolist(), high]


def shortage_table(
    index: HardPairIndex, topk: int, valid: NDArray[np.bool_] | None = None, unreadable: int = 0
) -> Table:
    """How many rows have all, some or none of their `topk` hard pairs."""
    found = live_counts(index.rows[:, :topk])
    found = found if valid is None else found[valid]
    shares = {
        **({"unreadable": unreadable} if unreadable else {}),
        "usable rows": len(found),
        f"with {topk} hard pairs": int((found == topk).sum()),
        f"with fewer than {topk}": int((found < topk).sum()),
        "with none": int((found == 0).sum()),
    }
    return Table("Rows", ["", "rows", "share"], _shares(shares, len(found) + unreadable))


def _shares(counts: Mapping[str, int], whole: int) -> list[list[str]]:
    return [[name, f"{count:,}", f"{100 * count / max(1, whole):.1f} %"] for name, count in counts.items()]


def time_table(seconds: Mapping[str, float]) -> Table:
    """Wall seconds of each stage."""
    lines = [[stage, f"{value:,.1f}"] for stage, value in seconds.items()]
    return Table("Time", ["stage", "seconds"], [*lines, ["together", f"{sum(seconds.values()):,.1f}"]])
