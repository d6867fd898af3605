"""The report of runs, one static page: settings that differ, metrics before and after, curves, hard pairs."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from helip.report.charts import Chart, Curve, line_chart
from helip.report.gallery import read_gallery
from helip.report.mining_report import report_folder
from helip.report.page import write_page
from helip.report.runs import Run, differing, labels, metric_order
from helip.report.tables import Table, comparison

SHOWN = 8  # lines of each section of the gallery; the mining report shows all
FIRST_CURVES = (
    "train/loss",
    "train/contrastive_loss",
    "train/margin_loss",
    "train/scale",
    "train/grad_norm",
    "train/lr",
)


def run_report(path: Path, runs: Sequence[Run], title: str = "") -> list[str]:
    """Write the page.

    Args:
        path: the HTML file.
        runs: one or more.
        title: heading; empty: made from the runs.

    Returns:
        Sentences about what is missing, which the page shows too.
    """
    names = labels(runs)
    galleries, lacking = _galleries(runs, names)
    problems = [f"{name}: {problem}" for name, run in zip(names, runs, strict=True) for problem in run.problems]
    dataset = ", ".join(dict.fromkeys(run.config.get("dataset.name", "unknown data") for run in runs))
    write_page(
        path,
        "run.html",
        title=title or ("HELIP run" if len(runs) == 1 else f"HELIP: {len(runs)} runs") + f" on {dataset}",
        legend=[Curve(name, number) for number, name in enumerate(names)],
        problems=[*problems, *lacking],
        overview=_overview(runs, names),
        comparisons=_comparisons(runs, names),
        curves=_curves(runs, names),
        galleries=galleries,
        settings=_settings(runs, names),
    )
    return [*problems, *lacking]


def _overview(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """One line for each run, or for each fact if there is only one run."""
    facts = {
        "kind": lambda run: run.kind,
        "model": lambda run: run.config.get("model.name", ""),
        "pairs by": lambda run: run.config.get("helip.score", ""),
        "top k": lambda run: run.config.get("helip.topk", ""),
        "seed": lambda run: run.config.get("seed", ""),
        "steps": lambda run: f"{run.about['steps']:,}" if isinstance(run.about.get("steps"), int) else "",
        "commit": lambda run: str(run.about.get("commit", "")),
        "folder": lambda run: str(run.folder),
    }
    if len(runs) == 1:
        return Table(names[0], ["run", names[0]], [[name, fact(runs[0])] for name, fact in facts.items()])
    lines = [[name, *(fact(run) for fact in facts.values())] for name, run in zip(names, runs, strict=True)]
    return Table("Runs", ["run", *facts], lines)


def _comparisons(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[str, list[Table]]]:
    """Headings and tables: several trainings side by side, then each run."""
    after: dict[str, Mapping[str, float]] = {}
    for name, run in zip(names, runs, strict=True):
        if "after" in run.metrics:
            after |= {} if after else {"before": run.metrics.get("before", {})}
            after[name] = run.metrics["after"]
    found = [("After training, beside the start of the first run", [_after(after)])] if len(after) > 2 else []
    for name, run in zip(names, runs, strict=True):
        if any(run.metrics.values()):
            groups = dict.fromkeys(metric.rpartition("/")[0] for column in run.metrics.values() for metric in column)
            found.append((name, [_group(run.metrics, group) for group in groups]))
    return found


def _after(columns: Mapping[str, Mapping[str, float]]) -> Table:
    """Runs as lines, because there may be many, and metrics in percent as columns, without ranks."""
    metrics = list(dict.fromkeys(metric for column in columns.values() for metric in column))
    metrics = [metric for metric in metrics if not metric.endswith("_rank")]
    best = {m: max((c[m] for n, c in columns.items() if n != "before" and m in c), default=None) for m in metrics}
    lines, styles = [], {}
    for y, (name, column) in enumerate(columns.items()):
        lines.append([name, *(f"{100 * column[metric]:.2f}" if metric in column else "-" for metric in metrics)])
        bold = {x: m for x, m in enumerate(metrics, 1) if name != "before" and m in column and column[m] == best[m]}
        styles |= {(y, x): "bold" for x in bold}
    return Table("", ["run (%)", *metrics], lines, styles)


def _group(columns: Mapping[str, Mapping[str, float]], group: str) -> Table:
    """The metrics of one evaluator, by names without the evaluator's."""
    own = {
        name: {
            metric.rpartition("/")[2]: value for metric, value in column.items() if metric.rpartition("/")[0] == group
        }
        for name, column in columns.items()
    }
    return comparison(own, group or "metrics")


def _curves(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[str, list[Chart]]]:
    """Panels, grouped by the first part of the metrics' names: evaluations, then training."""
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.curves))

    def order(metric: str) -> tuple[Any, ...]:
        place = FIRST_CURVES.index(metric) if metric in FIRST_CURVES else len(FIRST_CURVES)
        return metric.startswith("train/"), place, metric_order(metric)

    found = []
    for group, members in groupby(sorted(metrics, key=order), lambda metric: metric.rpartition("/")[0]):
        charts = [chart for metric in members if (chart := _chart(metric, runs, names))]
        if charts:
            found.append((group, charts))
    return found


def _chart(metric: str, runs: Sequence[Run], names: Sequence[str]) -> Chart | None:
    """One metric of all runs. A metric of an evaluator begins with its value before training; shares are in percent."""
    share = not metric.startswith("train/") and not metric.endswith("_rank")
    series: dict[int, Any] = {}
    for number, (name, run) in enumerate(zip(names, runs, strict=True)):
        steps, values = run.curves.get(metric, ([], []))
        start = run.metrics.get("before", {}).get(metric)
        if steps and start is not None:
            steps, values = [0, *steps], [start, *values]
        if steps:
            series[number] = name, (steps, [value * 100 for value in values] if share else values)
    return line_chart(metric.rpartition("/")[2], series, unit=" %" if share else "")


def _galleries(runs: Sequence[Run], names: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The first lines of the gallery of each index that the runs used, and sentences about missing galleries."""
    users: dict[Path, list[str]] = {}
    for name, run in zip(names, runs, strict=True):
        if run.hard_pairs:
            users.setdefault(run.hard_pairs, []).append(name)
    found, lacking = [], []
    for folder, who in users.items():
        content = read_gallery(report_folder(folder) / "gallery.json")
        if content is None:
            lacking.append(f"no gallery beside {folder}: run `python mine.py` with the same settings to draw it")
            continue
        for section in content["sections"]:
            section["lines"] = section["lines"][:SHOWN]
        found.append({"content": content, "page": str(report_folder(folder) / "index.html"), "runs": ", ".join(who)})
    return found, lacking


def _settings(runs: Sequence[Run], names: Sequence[str]) -> list[Table]:
    """Tables of the settings in which the runs differ, of the settings that they share, and of versions."""
    apart = differing(runs) if len(runs) > 1 else []
    tables = []
    if apart:
        lines = [[name, *(run.config.get(key, "-") for key in apart)] for name, run in zip(names, runs, strict=True)]
        tables.append(Table("Settings that differ", ["run", *apart], lines))
    first = runs[0]
    common = [[key, value] for key, value in first.config.items() if all(run.config.get(key) == value for run in runs)]
    tables.append(Table("Settings" if len(runs) == 1 else "Settings that all share", ["setting", "value"], common))
    lines = []
    for name, run in zip(names, runs, strict=True):
        versions = run.about.get("versions")
        packages = ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else ""
        machine = f"{run.about.get('machine', '')}, Python {run.about.get('python', '')}"
        lines.append([name, str(run.about.get("commit", "")), machine, packages])
    tables.append(Table("Made with", ["run", "commit", "machine", "versions"], lines))
    return tables
