"""Runs as arms: results.json files grouped by their settings, averaged over seeds, and compared in pairs.

An arm is a combination of values of settings (dotted keys of results.json); its runs differ in nothing but the seed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.intervals import Estimate, as_number, estimate
from helip.errors import HelipError
from helip.typed import flat

Key = tuple[str, ...]  # values of some settings, as text
SETTINGS = ("helip", "optim", "train", "data", "export", "encoders", "model", "fingerprint", "base.digest", "steps")
SAME = 0.005  # a checkpoint's metrics differ by less between machines (measured: 0.0017)


@dataclass(frozen=True)
class Run:
    """One results.json."""

    file: Path
    content: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return self.content.get("seed", 0)

    @cached_property
    def overrides(self) -> dict[str, str]:
        """Name -> value as it was typed, from the run folder; empty for a results.json alone."""
        file = self.file.parent / ".hydra" / "overrides.yaml"
        typed = [str(override) for override in OmegaConf.load(file)] if file.is_file() else []
        pairs = (override.lstrip("+").partition("=") for override in typed)
        return {name: value.strip("\"'") for name, _, value in pairs}

    def setting(self, name: str) -> Any:
        """By its dotted name; for a group such as `helip`, the typed option. Raises HelipError where there is none."""
        value: Any = self.content
        for part in name.split("."):
            value = value.get(part, {}) if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            return value
        if name not in self.overrides:
            raise HelipError(f"{self.file} has no {name}")
        return self.overrides[name]

    def key(self, names: Sequence[str]) -> Key:
        return tuple(_text(self.setting(name)) for name in names)

    def value(self, name: str) -> float:
        """A metric after the training, in percent unless it is a rank; or a number of results.json by dotted name."""
        after = self.content["metrics"]["after"]
        if name in after:
            return _factor(name) * after[name]
        if "/" in name:
            raise HelipError(f"not every run has {name}: {self.file} has {', '.join(sorted(after))}")
        return float(self.setting(name))

    def before(self, name: str) -> float | None:
        """The metric of the starting checkpoint, in the same unit."""
        found = self.content["metrics"]["before"].get(name)
        return None if found is None else _factor(name) * found

    def settings(self) -> dict[str, str]:
        """The settings that may differ between runs, without the seed and those that an older results.json lacks."""
        found = {}
        for name in SETTINGS:
            value: Any = self.content
            for part in name.split("."):
                value = value.get(part, {}) if isinstance(value, dict) else {}
            found |= {setting: _text(inner) for setting, inner in flat(value, name).items()}
        return found


def _text(value: Any) -> str:
    """1.0 and 1 are the same setting."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def wanted(text: str) -> dict[str, str]:
    """`helip.score=joint,optim.lr=3e-4` by name, values as `Run.key` writes them. Raises HelipError for other forms."""
    found = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if not name or not value:
            raise HelipError(f"{text} must be KEY=VALUE, or several of them with commas between")
        try:
            found[name] = _text(json.loads(value))
        except json.JSONDecodeError:
            found[name] = value
    return found


def _factor(metric: str) -> int:
    return 1 if metric.endswith("_rank") else 100


def with_unit(name: str, share: str = "%") -> str:
    """The heading of a metric; ranks and numbers of results.json have no unit."""
    return f"{name} ({share})" if "/" in name and _factor(name) == 100 else name


def find_results(paths: Iterable[Path]) -> list[Path]:
    """The results.json files of the paths: files, run folders, or folders of runs.

    A job that a sweep skipped as finished counts with the results of its earlier run.

    Raises:
        HelipError: a path has none.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        folders = [path, *sorted(path.glob("*/"), key=lambda job: (len(job.name), job.name))] if path.is_dir() else []
        files = [path] if path.is_file() else []
        for folder in folders:
            status = folder / "status.json"
            run = json.loads(status.read_text(encoding="utf-8")).get("run") if status.is_file() else None
            files += [
                file for file in (folder / "results.json", Path(run or folder) / "results.json") if file.is_file()
            ]
        if not files:
            raise HelipError(f"{path} is neither a results.json nor a folder of runs with one")
        found |= {file.resolve(): file for file in files}
    return list(found.values())


def load(paths: Iterable[Path]) -> list[Run]:
    return [Run(file, json.loads(file.read_text(encoding="utf-8"))) for file in find_results(paths)]


def arms(runs: Sequence[Run], by: Sequence[str]) -> dict[Key, list[Run]]:
    """Runs grouped by their values of `by`. Numbers are sorted; other values keep the order of the files.

    Raises:
        HelipError: runs of an arm have the same seed, or differ in more than the seed.
    """
    found: dict[Key, list[Run]] = {}
    for run in runs:
        found.setdefault(run.key(by), []).append(run)
    for key, members in found.items():
        first, *others = members
        for other in others:
            if differing := _differing(first, other):
                raise HelipError(
                    f"the arm {' '.join(key)} mixes {first.file} and {other.file}, which differ in "
                    f"{', '.join(differing)}: name it in --by, or leave one of them out"
                )
        for run in members:
            if twice := [other for other in members if other.seed == run.seed and other is not run]:
                raise HelipError(f"{run.file} and {twice[0].file} are the same arm and seed: leave one of them out")
    places = [_in_order(column) for column in zip(*found, strict=True)]
    return dict(
        sorted(found.items(), key=lambda arm: [place[part] for place, part in zip(places, arm[0], strict=True)])
    )


def _in_order(values: Iterable[str]) -> dict[str, int]:
    distinct = list(dict.fromkeys(values))
    if all(as_number(value) is not None for value in distinct):
        distinct.sort(key=float)
    return {value: place for place, value in enumerate(distinct)}


def _differing(one: Run, other: Run) -> list[str]:
    mine, theirs = one.settings(), other.settings()
    return sorted(name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name])


@dataclass(frozen=True)
class Line:
    """An arm or a difference: its key, its number of runs or pairs, and an estimate for each metric."""

    key: Key
    count: int
    estimates: Mapping[str, Estimate]


def arm_lines(runs: Sequence[Run], by: Sequence[str], metrics: Sequence[str]) -> list[Line]:
    return [
        Line(key, len(members), {name: estimate([run.value(name) for run in members]) for name in metrics})
        for key, members in arms(runs, by).items()
    ]


def start(runs: Sequence[Run], metrics: Sequence[str]) -> dict[str, float]:
    """Metrics of the checkpoint that all runs started from; empty if --by tells several apart.

    Raises:
        HelipError: the runs did not start from the same checkpoint.
    """
    found: dict[str, float] = {}
    for name in metrics:
        values = [value for run in runs if (value := run.before(name)) is not None]
        if values and max(values) - min(values) > SAME * _factor(name):
            raise HelipError("the runs did not start from the same checkpoint: name base.digest in --by")
        found |= {name: values[0]} if values else {}
    return found


def difference_lines(
    runs: Sequence[Run], by: Sequence[str], metrics: Sequence[str], one: Mapping[str, str], other: Mapping[str, str]
) -> tuple[list[Line], list[str]]:
    """One arm minus another, paired by seed and by the keys of `by` that neither names.

    Args:
        one: the values of the first arm, such as {"helip.score": "joint"}.
        other: of the second.

    Returns:
        A line for each value of the other keys, with estimates of the differences; and sentences about runs without a
        counterpart and about other settings that differ.

    Raises:
        HelipError: no run has its counterpart.
    """
    rest = [name for name in by if name not in one and name not in other]
    sides = []
    for values in (one, other):
        chosen = [run for run in runs if run.key(tuple(values)) == tuple(values.values())]
        sides.append({(key, run.seed): run for key, members in arms(chosen, rest).items() for run in members})
    pairs = [(place[0], run, sides[1][place]) for place, run in sides[0].items() if place in sides[1]]
    title = f"{' '.join(one.values())} - {' '.join(other.values())}"
    if not pairs:
        raise HelipError(
            f"{title}: no run has a counterpart with the same seed{''.join(f' and {name}' for name in rest)}"
        )
    lines, notes = [], []
    for key in dict.fromkeys(key for key, _, _ in pairs):
        members = [(a, b) for k, a, b in pairs if k == key]
        estimates = {name: estimate([a.value(name) - b.value(name) for a, b in members]) for name in metrics}
        lines.append(Line((title, *key), len(members), estimates))
    if alone := len(sides[0]) + len(sides[1]) - 2 * len(pairs):
        notes.append(f"{title}: {alone} runs have no counterpart and are left out.")
    differing = {name for _, a, b in pairs for name in _differing(a, b)}
    named = {*one, *other}
    if also := sorted(name for name in differing if name not in named and name.partition(".")[0] not in named):
        notes.append(f"{title}: the two also differ in {', '.join(also)}.")
    return lines, notes
