"""Parallel work on shards whose result folder appears when all shards are done.

Until then the shards are in `.NAME.partial` beside that folder, and the same command resumes there. A shard is finished
when its STEM_stats.json exists. Both files are written atomically, and their bytes do not depend on which process wrote
them.
"""

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from helip.artifacts.atomic import json_text, read_json, write_json
from helip.errors import HelipError
from helip.formats.options import new_folder

BEGUN = "begun.json"
AHEAD = 2  # queued tasks per process
QUIET = Console(quiet=True)
Task = TypeVar("Task")
Result = TypeVar("Result")


def stamp(files: Iterable[Path]) -> list[list[Any]]:
    """Names, sizes and modification times of files or folders; equal stamps mean unchanged files."""
    states = [(file, file.stat()) for file in files]
    return [[str(file.absolute()), state.st_size, state.st_mtime_ns] for file, state in states]


@contextmanager
def partial_folder(out: Path, made_of: Any, console: Console) -> Iterator[Path]:
    """A folder to write to, which is renamed to `out` when the block ends without an error.

    Args:
        made_of: JSON-like; a partial folder that was begun with another value is deleted.

    Raises:
        HelipError: `out` exists already. A HelipError inside the block deletes the partial folder; any other error
            keeps it, so that the same command resumes.
    """
    target = new_folder(out)
    folder = target.with_name(f".{target.name}.partial")
    begun, wanted = folder / BEGUN, json_text(made_of)
    if folder.exists():
        if begun.is_file() and begun.read_text(encoding="utf-8") == wanted:
            done = len(list(folder.glob("*_stats.json")))
            console.print(f"resuming in {folder}: {done:,} shards are done")
        else:
            shutil.rmtree(folder)
    if not begun.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(begun, made_of)
    for stale in folder.glob(".*.tmp"):  # left by a killed process
        stale.unlink()
    try:
        yield folder
    except HelipError:
        shutil.rmtree(folder)
        raise
    begun.unlink()
    os.replace(folder, target)  # an empty folder may be there


def stats_path(folder: Path, stem: str) -> Path:
    """The file whose existence marks the shard `stem`.tar as finished."""
    return folder / f"{stem}_stats.json"


def finished(folder: Path, stem: str) -> dict[str, Any] | None:
    """The statistics of a shard; None if it is not written yet."""
    path = stats_path(folder, stem)
    return read_json(path) if path.is_file() else None


def run_tasks(
    tasks: Iterable[Task], work: Callable[[Task], Result], processes: int, what: str, console: Console
) -> Iterator[Result]:
    """Results in the order of the tasks, with a progress bar; tasks are generated as they are needed.

    Args:
        work: a module-level function, because it is pickled.
        processes: 1 runs the tasks in this process.

    Raises:
        OSError: a process was killed. Any error of `work` is raised for the first task that fails.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=None)
        for result in map(work, tasks) if processes == 1 else _in_processes(tasks, work, processes):
            progress.advance(bar)
            yield result


def _in_processes(tasks: Iterable[Task], work: Callable[[Task], Result], processes: int) -> Iterator[Result]:
    context = get_context("forkserver")
    context.set_forkserver_preload([work.__module__])  # import torch once, not in each process
    pool = ProcessPoolExecutor(processes, mp_context=context)
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) >= AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise OSError("a process was killed (out of memory?): lower --processes, then run the command again") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
