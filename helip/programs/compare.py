"""Checkpoints side by side: headings, one table, results.json, and the files of clip-benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from helip.artifacts.atomic import write_json, write_text
from helip.evaluation.best import BestCheckpoint
from helip.evaluation.embed import Evaluator, Found
from helip.evaluation.results import clip_benchmark_records, file_name, results
from helip.evaluation.samples import RESAMPLES, difference_intervals, values_of
from helip.models.clip import ModelSpec
from helip.report.tables import comparison
from helip.tracking.run import provenance

LEVEL = 0.95
Intervals = Mapping[str, Mapping[str, tuple[float, float]]]


def write_comparison(
    measured: Mapping[str, Found],
    specs: Mapping[str, ModelSpec],
    evaluators: Sequence[Evaluator],
    dataset: str,
    folder: Path,
    console: Console,
) -> None:
    """Print and write the metrics of each checkpoint, with differences to the first and their intervals.

    Args:
        measured: heading of a checkpoint -> metrics with their samples.
        specs: heading -> model.
        evaluators: their names are those of clip-benchmark's files.
        dataset: name of the data.
        folder: of the run.
        console: for the table.
    """
    first, *others = measured
    columns = {name: values_of(found) for name, found in measured.items()}
    intervals = {name: difference_intervals(measured[first], measured[name], LEVEL) for name in others}
    print_metrics(columns, folder, console, intervals)
    about: dict[str, Any] = provenance()
    if intervals:
        console.print(f"in brackets: {LEVEL:.0%} interval of the difference, {RESAMPLES:,} paired bootstrap resamples")
        about["difference_intervals"] = {"first": first, "level": LEVEL, "resamples": RESAMPLES, "columns": intervals}
    models, names = {name: spec.name for name, spec in specs.items()}, benchmark_names(evaluators)
    weights = {name: str(spec.pretrained) for name, spec in specs.items()}
    content = results(
        columns, dataset=dataset, model=models[first], pretrained=weights, about=about, models=models, names=names
    )
    write_json(folder / "results.json", content)
    files = {
        file_name(record, column): record
        for column, metrics in columns.items()
        for record in clip_benchmark_records(
            metrics, dataset=dataset, model=models[column], pretrained=weights[column], names=names
        )
    }
    for name, record in files.items():
        write_json(folder / "clip_benchmark" / name, record)
    console.print(f"results: {folder / 'results.json'}" + (f", {len(files)} files in clip_benchmark/" if files else ""))


def print_metrics(
    columns: Mapping[str, Mapping[str, float]], folder: Path, console: Console, intervals: Intervals | None = None
) -> None:
    """The table of metrics on the console and in metrics.md; each column after the first with its difference."""
    if not any(columns.values()):
        console.print(
            "no metric was computed: the dataset names no evaluation part, see conf/dataset and docs/evaluation.md"
        )
        return
    table = comparison(columns, intervals=intervals)
    console.print(table.rich())
    write_text(folder / "metrics.md", table.markdown())


def best_column(best: Sequence[BestCheckpoint], history: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """All metrics of the best checkpoint under its heading; nothing if none was kept."""
    return {
        f"best (step {one.step})": {name: value for name, value in entry.items() if name != "step"}
        for one in best
        for entry in history
        if one.value is not None and entry["step"] == one.step
    }


def benchmark_names(evaluators: Sequence[Evaluator]) -> dict[str, str]:
    """Name of evaluators -> clip-benchmark's name of their data, if they have one and agree."""
    found: dict[str, set[str | None]] = {}
    for one in evaluators:
        found.setdefault(one.name, set()).add(one.benchmark)
    return {name: only for name, (only, *others) in found.items() if only and not others}


def column_name(pretrained: str, taken: dict[str, Any]) -> str:
    """A short unique heading: the file's name and its folder, or the tag."""
    path = Path(pretrained)
    name = "/".join(path.parts[-2:]) if path.is_file() else pretrained
    return name if name not in taken else f"{name} ({len(taken) + 1})"
