"""Checkpoints side by side: their models and headings, one table, results.json, and clip-benchmark's files."""

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
        evaluators: that measured them.
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
    content = results(
        columns,
        dataset=dataset,
        model=specs[first].name,
        pretrained={name: str(spec.pretrained) for name, spec in specs.items()},
        about=about,
        models={name: spec.name for name, spec in specs.items()},
        names=benchmark_names(evaluators),
    )
    write_json(folder / "results.json", content)
    count = 0
    for name, values in columns.items():
        count += write_benchmark_files(values, name, specs[name], evaluators, dataset, folder / "clip_benchmark")
    console.print(f"results: {folder / 'results.json'}" + (f", {count} files in clip_benchmark/" if count else ""))


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


def write_benchmark_files(
    metrics: Mapping[str, float],
    column: str,
    spec: ModelSpec,
    evaluators: Sequence[Evaluator],
    dataset: str,
    folder: Path,
) -> int:
    """A json file for each data set and task, as `clip_benchmark build FOLDER` reads them; how many."""
    records = clip_benchmark_records(
        metrics,
        dataset=dataset,
        model=spec.name,
        pretrained=str(spec.pretrained),
        names=benchmark_names(evaluators),
    )
    for record in records:
        write_json(folder / file_name(record, column), record)
    return len(records)


def best_column(best: Sequence[BestCheckpoint], history: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """All metrics of the best checkpoint under its heading; nothing where none was kept."""
    return {
        f"best (step {one.step})": {name: value for name, value in entry.items() if name != "step"}
        for one in best
        for entry in history
        if one.value is not None and entry["step"] == one.step
    }


def benchmark_names(evaluators: Sequence[Evaluator]) -> dict[str, str]:
    """Name of evaluators -> clip-benchmark's own name of their data, where they have one and agree."""
    found: dict[str, set[str | None]] = {}
    for one in evaluators:
        found.setdefault(one.name, set()).add(one.benchmark)
    return {name: only for name, (only, *others) in found.items() if only and not others}


def column_name(pretrained: str, taken: dict[str, Any]) -> str:
    """A short unique heading: the file's name and its folder, or the tag."""
    path = Path(pretrained)
    name = "/".join(path.parts[-2:]) if path.is_file() else pretrained
    return name if name not in taken else f"{name} ({len(taken) + 1})"
