"""Reads a run folder, also of an unfinished run: each missing or damaged file becomes a note."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helip.artifacts.metrics_file import read_lines
from helip.errors import HelipError
from helip.report.captions import readable
from helip.typed import TARGET, flat

Columns = dict[str, tuple[list[int], list[float]]]  # metric -> steps and values

FIRST = (
    "helip.score",
    "helip.topk",
    "helip.",
    "train.",
    "optim.",
    "model.",
    "dataset.",
    "data.",
    "search.",
)  # order of settings in labels and tables
OPERATIONS = "operations"  # key in provenance.json: names of the settings that change no result
COLUMNS = ("before", "after")  # order of the columns of results.json, whose keys are sorted
LONGEST = 60  # characters of a label


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        kind: mine, train or evaluate.
        config: dotted name -> value, as text.
        metrics: column (`before`, `after`, a checkpoint's name) -> metric -> value.
        curves: metric -> steps and values, from metrics.csv.
        overrides: name -> value of the overrides of a multirun's job, as typed.
        about: provenance.json, and the rest of results.json or mining.json.
        problems: a sentence for each file that is missing or damaged.
    """

    folder: Path
    kind: str
    config: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: Columns = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def hard_pairs(self) -> Path | None:
        """The folder of the hard pairs that the run mined or trained on."""
        place = self.about.get("hard_pairs")
        return Path(place) if isinstance(place, str) else None


def read_run(folder: Path) -> Run:
    """Read the files of a run folder that exist. Raises HelipError if there is no such folder, or no run in it."""
    if not folder.is_dir():
        raise HelipError(f"{folder} is no folder: give run folders, such as runs/train/DATE")
    problems: list[str] = []
    config = _json(folder / "config.json", problems)
    provenance = _json(folder / "provenance.json", problems)
    mining = _json(folder / "mining.json", []) or {}
    kind = _kind(folder, config or {}, bool(mining))
    results = {} if kind == "mine" else _json(folder / "results.json", problems, "; the run did not finish") or {}
    if config is None and not results and not (folder / "metrics.csv").is_file():
        raise HelipError(f"{folder} holds no run (no config.json, results.json or metrics.csv): give a run folder")
    if kind == "train" and not (folder / "metrics.csv").is_file():
        problems.append("metrics.csv is missing: no curves; it is written with logger=csv after the first steps")
    curves = read_curves(folder / "metrics.csv") if kind == "train" else {}
    metrics = results.pop("metrics", {})
    about = {**(provenance or {}), **results, **mining}
    overrides = _overrides(_json(folder / "status.json", []) or {})
    return Run(folder, kind, _settings(config or {}), _numbers(metrics), curves, overrides, about, problems)


def read_curves(file: Path) -> Columns:
    """Steps and values of every column of a metrics.csv, without empty cells."""
    columns: Columns = {}
    for line in read_lines(file):
        for name, cell in line.items():
            if name not in ("step", "epoch"):
                with suppress(KeyError, ValueError):
                    step, value = int(line["step"]), float(cell)
                    steps, values = columns.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(value)
    return columns


def _kind(folder: Path, config: Mapping[str, Any], mined: bool) -> str:
    if mined or "reuse" in config:
        return "mine"
    return "evaluate" if "checkpoint" in config and not (folder / "metrics.csv").is_file() else "train"


def _json(path: Path, problems: list[str], more: str = "") -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        problems.append(f"{path.name} is no JSON object")
    except FileNotFoundError:
        problems.append(f"{path.name} is missing{more}")
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read ({readable(str(error))})")
    return None


def _numbers(columns: Any) -> dict[str, dict[str, float]]:
    """The numbers of results.json, which another program may have written."""
    if not isinstance(columns, dict):
        return {}
    ordered = sorted(columns, key=lambda name: COLUMNS.index(name) if name in COLUMNS else len(COLUMNS))
    return {
        readable(name): {
            readable(metric): float(values[metric])
            for metric in sorted(values, key=metric_order)
            if isinstance(values[metric], int | float) and not isinstance(values[metric], bool)
        }
        for name in ordered
        if isinstance(values := columns[name], dict)
    }


def metric_order(name: str) -> tuple[Any, ...]:
    """Sorts metrics by evaluator, ranks last, and recall@5 before recall@10."""
    group, _, metric = name.rpartition("/")
    return group, metric.endswith("_rank"), [(text, int(n or 0)) for text, n in re.findall(r"(\D*)(\d*)", metric)]


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted name -> shortened text."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat(config).items()}
    return {readable(name): readable(text, 400) for name, text in texts.items()}


def _overrides(status: Mapping[str, Any]) -> dict[str, str]:
    """The overrides in the status of a multirun's job."""
    typed = (str(override).lstrip("+").partition("=") for override in status.get("overrides", ()))
    return {readable(name): readable(value.strip("\"'"), LONGEST) for name, _, value in typed}


def differing(runs: Sequence[Run]) -> list[str]:
    """Settings in which the runs differ, except operations; of settings with the same values per run only the first."""
    operations = {str(name) for run in runs if isinstance(found := run.about.get(OPERATIONS), list) for name in found}
    names = [name for name in dict.fromkeys(name for run in runs for name in run.config) if name not in operations]
    names.sort(key=lambda name: next((n for n, start in enumerate(FIRST) if name.startswith(start)), len(FIRST)))
    apart: dict[tuple[str | None, ...], str] = {}
    for name in names:
        values = tuple(run.config.get(name) for run in runs)
        if len(set(values)) > 1:
            apart.setdefault(values, name)
    return list(apart.values())


def telling(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """The settings that no earlier one implies, as the score implies the margin weight."""
    kept: list[str] = []
    for name in names:
        values = [[run.config.get(one) for run in runs] for one in (*kept, name)]
        if all(len(set(zip(other, values[-1], strict=True))) > len(set(other)) for other in values[:-1]):
            kept.append(name)
    return kept


def labels(runs: Sequence[Run]) -> list[str]:
    """A short and unique name of each run: its typed overrides or the settings in which it differs, else its folder."""
    out: list[str] = []
    for run, parts in zip(runs, _apart(runs), strict=True):
        label = readable(" ".join(f"{name}={value}" for name, value in parts.items()), LONGEST)
        if not label or len(runs) == 1:
            label = readable("/".join(run.folder.absolute().parts[-2:]), LONGEST)
        if label in out:
            label = f"{label} ({run.folder.name})"
        out.append(label if label not in out else f"{label} {len(out) + 1}")
    return out


def _apart(runs: Sequence[Run]) -> list[dict[str, str]]:
    """For each run the settings in which it differs: the last part of each name, and the value."""
    if all(run.overrides for run in runs):
        names = dict.fromkeys(name for run in runs for name in run.overrides)
        varied = [name for name in names if len({run.overrides.get(name) for run in runs}) > 1]
        if len({tuple(run.overrides.get(name) for name in varied) for run in runs}) == len(runs):
            return [
                {name.rpartition(".")[2]: run.overrides[name] for name in varied if name in run.overrides}
                for run in runs
            ]
    known = [run for run in runs if run.config]
    names = telling(known, differing(known))
    return [dict(_shown(name, run.config[name]) for name in names if name in run.config) for run in runs]


def _shown(name: str, value: str) -> tuple[str, str]:
    """The last part of a setting's name, and its value; for the class of a part such as `helip.margin` both short."""
    group, _, last = name.rpartition(".")
    return (group.rpartition(".")[2], value.rpartition(".")[2]) if last == TARGET else (last, value)
