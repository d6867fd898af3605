"""What a run folder holds, read without failing over what an unfinished run lacks."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helip.errors import HelipError
from helip.report.captions import readable
from helip.report.plots import Columns, read_metrics

WHERE = ("paths", "logger", "mine", "hydra")  # settings of where and how, not of what
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
)  # of equal columns the first is named
COLUMNS = ("before", "after")  # of results.json, whose keys are sorted
LONGEST = 60  # characters of a label


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        kind: mine, train or evaluate.
        config: dotted name -> value, as text.
        metrics: column (`before`, `after`, a checkpoint's name) -> metric -> value.
        curves: metric -> steps and values, from metrics.csv.
        about: the rest of results.json or mining.json, and provenance.json.
        problems: a sentence for each file that is missing or damaged.
    """

    folder: Path
    kind: str
    config: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: Columns = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def hard_pairs(self) -> Path | None:
        """The folder of the hard pairs that it trained on or mined."""
        place = self.about.get("hard_pairs")
        return Path(place) if isinstance(place, str) else None


def read_run(folder: Path) -> Run:
    """Read a run folder, whatever part of it is there.

    Raises:
        HelipError: no such folder, or nothing of a run in it.
    """
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
    curves: Columns = {}
    if kind == "train":
        try:
            curves = read_metrics(folder / "metrics.csv")
        except HelipError:
            problems.append("metrics.csv is missing: no curves; it is written with logger=csv after the first steps")
    metrics = results.pop("metrics", {})
    about = {**(provenance or {}), **results, **mining}
    return Run(folder, kind, flat(config or {}), _numbers(metrics), curves, about, problems)


def _kind(folder: Path, config: Mapping[str, Any], mined: bool) -> str:
    if mined or "reuse" in config:
        return "mine"
    return "evaluate" if "checkpoint" in config and not (folder / "metrics.csv").is_file() else "train"


def _json(path: Path, problems: list[str], more: str = "") -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        problems.append(f"{path.name} is not what a run writes")
    except FileNotFoundError:
        problems.append(f"{path.name} is missing{more}")
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read ({readable(str(error))})")
    return None


def _numbers(columns: Any) -> dict[str, dict[str, float]]:
    """Only what is a number: results.json may have been written by other hands."""
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
    """By evaluator, ranks last, and recall@5 before recall@10; JSON keeps no order of ours."""
    group, _, metric = name.rpartition("/")
    return group, metric.endswith("_rank"), [(text, int(n or 0)) for text, n in re.findall(r"(\D*)(\d*)", metric)]


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Dotted name -> text, cut; a list is one value."""
    if isinstance(value, dict) and value:
        parts = [flat(inner, f"{prefix}.{name}".strip(".")) for name, inner in value.items()]
        return {name: text for part in parts for name, text in part.items()}
    return {readable(prefix): readable(value if isinstance(value, str) else json.dumps(value), 400)} if prefix else {}


def differing(runs: Sequence[Run]) -> list[str]:
    """Settings in which the runs differ; of those that tell the same runs apart in the same way only the first."""
    names = list(dict.fromkeys(name for run in runs for name in run.config if not name.startswith(WHERE)))
    names.sort(key=lambda name: next((n for n, start in enumerate(FIRST) if name.startswith(start)), len(FIRST)))
    found: dict[tuple[str | None, ...], str] = {}
    for name in names:
        values = tuple(run.config.get(name) for run in runs)
        if len(set(values)) > 1:
            found.setdefault(values, name)
    return list(found.values())


def telling(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Of such settings those that no earlier one decides: the margin weight says nothing that the score does not."""
    kept: list[str] = []
    for name in names:
        for other in kept:
            if len({(run.config.get(other), run.config.get(name)) for run in runs}) == len(
                {run.config.get(other) for run in runs}
            ):
                break
        else:
            kept.append(name)
    return kept


def labels(runs: Sequence[Run]) -> list[str]:
    """A short and unique name of each run: what sets it apart, else its folder."""
    known = [run for run in runs if run.config]
    names = telling(known, differing(known))
    out: list[str] = []
    for run in runs:
        parts = [f"{name.rpartition('.')[2]}={run.config[name]}" for name in names if name in run.config]
        label = readable(" ".join(parts), LONGEST)
        if not label or len(runs) == 1:
            label = readable("/".join(run.folder.absolute().parts[-2:]), LONGEST)
        if label in out:
            label = f"{label} ({run.folder.name})"
        out.append(label if label not in out else f"{label} {len(out) + 1}")
    return out
