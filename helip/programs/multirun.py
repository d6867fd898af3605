"""The jobs of a multirun: which had finished before, how each ended, and one table of all of them.

A job is identified by its settings (helip/programs/continued.py), not by its number or folder: the same command in a
new folder finds the finished jobs. `status.json` in a job's folder holds its overrides, how it ended, and the run that
has its results.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import read_json, write_json
from helip.report.tables import Table
from helip.training.run_files import of_runs

STATUS, RESULTS = "status.json", "results.json"
UNFINISHED, FINISHED, BEFORE, FAILED = "unfinished", "finished", "finished before", "failed"
METRICS = 4  # columns that fit into a terminal
MAIN = ("recall@1", "_top1")  # ends of the names of the metrics that are shown


def finished_run(settings: str, folder: Path, runs: Path) -> Path | None:
    """The latest run whose results.json has this digest of settings: `folder`, a neighbour of it, or any of `runs`."""
    found = of_runs(RESULTS, folder, runs)
    return next((path.parent for path in found if read_json(path).get("settings") == settings), None)


def begin_job(folder: Path, overrides: Sequence[str]) -> None:
    """Note that a job with these overrides has begun in `folder`."""
    write_json(folder / STATUS, {"status": UNFINISHED, "overrides": list(overrides)})


def note_job(folder: Path, **what: Any) -> None:
    """Add to the status of a job."""
    write_json(folder / STATUS, _status(folder) | what)


def end_job(folder: Path, reason: str | None = None) -> None:
    """Note that a job has ended; `reason` says why it failed."""
    if reason is not None:
        note_job(folder, status=FAILED, reason=reason)
    elif _status(folder)["status"] == UNFINISHED:
        note_job(folder, status=FINISHED)


def _status(folder: Path) -> dict[str, Any]:
    return read_json(folder / STATUS) if (folder / STATUS).is_file() else {}


@dataclass(frozen=True)
class Job:
    """A job folder's number, overrides by name, how it ended, the run that has its results, and its last metrics."""

    number: str
    overrides: dict[str, str]
    status: str
    run: Path
    metrics: dict[str, float] = field(default_factory=dict)


def read_jobs(sweep: Path) -> list[Job]:
    """Jobs of a sweep's folder by number, without those that never began."""
    folders = [path.parent for path in sweep.glob(f"*/{STATUS}")]
    return [_read_job(folder) for folder in sorted(folders, key=lambda folder: (len(folder.name), folder.name))]


def _read_job(folder: Path) -> Job:
    noted = _status(folder)
    run = Path(noted.get("run", folder))
    done = noted["status"] in (FINISHED, BEFORE) and (run / RESULTS).is_file()
    metrics = read_json(run / RESULTS).get("metrics", {}).get("after", {}) if done else {}
    overrides = dict(override.lstrip("+").partition("=")[::2] for override in noted["overrides"])
    return Job(folder.name, overrides, noted["status"], run, metrics)


def varied(jobs: Sequence[Job]) -> list[str]:
    """Names of the overrides in which the jobs differ."""
    names = dict.fromkeys(name for job in jobs for name in job.overrides)
    return [name for name in names if len({job.overrides.get(name) for job in jobs}) > 1]


def sweep_table(jobs: Sequence[Job]) -> Table:
    """A line for each job: the overrides in which jobs differ, its main metrics, and how it ended."""
    names = varied(jobs)
    found = dict.fromkeys(name for job in jobs for name in job.metrics if name.endswith(MAIN))
    metrics = sorted(found, key=lambda name: not name.startswith("test/"))[:METRICS]
    lines = [
        [
            job.number,
            *(job.overrides.get(name, "") for name in names),
            *(f"{100 * job.metrics[name]:.2f}" if name in job.metrics else "-" for name in metrics),
            job.status,
        ]
        for job in jobs
    ]
    return Table("Jobs", ["job", *names, *(f"{name} (%)" for name in metrics), "status"], lines)


def tabulate_command(sweep: Path, jobs: Sequence[Job]) -> str:
    """The command that makes a table and a plot of the sweep, over the last number that varies."""
    names = [name for name in varied(jobs) if name != "seed"]
    numbers = [name for name in names if all(_is_number(job.overrides.get(name, "")) for job in jobs)]
    by = [name for name in names if name not in numbers[-1:]]
    keys = [*(["--by", *by] if by else []), *(["--x", numbers[-1]] if numbers else [])]
    return f"python experiments/tabulate.py {shlex.join([str(sweep), *keys, '--out', str(sweep / 'table')])}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def describe_sweep(sweep: Path) -> tuple[Table, list[str], bool]:
    """The table, sentences below it, and whether every job that began has ended well."""
    jobs = read_jobs(sweep)
    before: dict[Path, list[str]] = {}
    for job in jobs:
        if job.status == BEFORE:
            before.setdefault(job.run.parent, []).append(f"{job.number} ({job.run.name})")
    left = [job.number for job in jobs if job.status in (FAILED, UNFINISHED)]
    lines = [f"jobs are in {sweep}"]
    if before:
        places = "; ".join(f"{', '.join(numbers)} in {folder}" for folder, numbers in before.items())
        lines.append(f"finished before and not repeated (train.skip_finished=false repeats them): jobs {places}")
    if left:
        lines.append(f"jobs {', '.join(left)} have no result: repeat the command to run them")
    if any(job.metrics for job in jobs):
        lines.append(f"table and plot over seeds: {tabulate_command(sweep, jobs)}")
    return sweep_table(jobs), lines, not left
