"""A CSV or TSV list, an image folder, parquet, Arrow, COCO, Flickr8k, a folder of pairs or a .tar.gz as shards.

Shard n holds the pairs n * per_shard to (n + 1) * per_shard of the source, without those that were skipped. So the
processes work independently, and the bytes do not depend on their number or on interruptions.
"""

import argparse
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from helip.artifacts.atomic import write_json
from helip.errors import HelipError
from helip.formats.options import add_processes, progress_console, separator
from helip.formats.packing import SHOWN, SUCCESS, ShardTask, write_shard
from helip.formats.resumable import QUIET, partial_folder, run_tasks, stamp
from helip.formats.sources import Options, Source, recognise

VERSION = 1
UNPACKED = ".unpacked"


@dataclass
class Converted:
    """The result of a conversion.

    Attributes:
        reasons: number of skipped pairs by reason.
        shown: the first skipped pairs, each as a sentence.
        warnings: further problems of the source.
    """

    kind: str
    samples: int = 0
    shards: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])

    def add(self, statistics: dict[str, Any]) -> None:
        """Count one shard."""
        self.samples += statistics["successes"]
        self.shards += bool(statistics["successes"])
        self.reasons.update({name: n for name, n in statistics["status_dict"].items() if name != SUCCESS and n})
        self.shown += statistics["left_out"][: max(0, SHOWN - len(self.shown))]

    def sentences(self) -> list[str]:
        """One line for each fact."""
        lines = [f"{self.samples:,} samples in {self.shards:,} shards"]
        if self.reasons:
            counts = ", ".join(f"{count:,} with {reason}" for reason, count in sorted(self.reasons.items()))
            lines += [f"{self.reasons.total():,} were left out ({counts}), such as:", *self.shown]
        return lines + [f"warning: {sentence}" for sentence in self.warnings]


def to_shards(
    path: Path,
    out: Path,
    options: Options | None = None,
    per_shard: int = 10_000,
    on_error: str = "fail",
    processes: int = 1,
    console: Console = QUIET,
) -> Converted:
    """Write 00000.tar, 00000_stats.json, ... and conversion.json, which records their origin.

    Args:
        path: a file or folder in any layout of helip.formats.sources.
        out: a new folder, which appears when all shards are done; an interrupted run resumes.
        per_shard: source pairs per shard.
        on_error: for a pair without a caption or a readable image: `fail` raises, `skip` counts it.

    Raises:
        HelipError: an unknown layout, a pair that is no sample with on_error="fail", or no sample at all.
    """
    if per_shard < 1:
        raise HelipError(f"--per-shard {per_shard} must be at least 1")
    options = options or Options()
    source = recognise(path, options)
    console.print(f"{path}: read as {source.kind}")
    done = Converted(source.kind)
    with partial_folder(out, _made_of(source, options, per_shard, on_error), console) as folder:
        (folder / UNPACKED).mkdir(exist_ok=True)
        tasks = _tasks(source, folder, per_shard, on_error)
        for statistics in run_tasks(tasks, write_shard, processes, "writing shards", console):
            done.add(statistics)
        done.warnings = source.warnings
        if not done.samples:
            why = f", the first: {done.shown[0]}" if done.shown else ": it lists none"
            raise HelipError(f"{path} gives no sample{why}")
        shutil.rmtree(folder / UNPACKED)
        facts = {"version": VERSION, "kind": type(source).__name__, "samples": done.samples, "per_shard": per_shard}
        write_json(folder / "conversion.json", facts | {"left_out": dict(done.reasons)})
    return done


def _made_of(source: Source, options: Options, per_shard: int, on_error: str) -> dict[str, Any]:
    """A partial result is resumed only by a command with an equal description."""
    given = asdict(options) | {"images": str(options.images) if options.images else None}
    how = {"options": given, "per_shard": per_shard, "on_error": on_error}
    return {"version": VERSION, "kind": source.kind, "files": stamp(source.files), **how}


def _tasks(source: Source, folder: Path, per_shard: int, on_error: str) -> Iterator[ShardTask]:
    items, digits = source.items(folder / UNPACKED), max(4, len(str(per_shard - 1)))  # of img2dataset's keys
    number = 0
    while some := list(islice(items, per_shard)):
        yield ShardTask(folder, number, some, digits, on_error)
        number += 1


def columns(text: str) -> dict[str, str]:
    """`image=NAME,caption=NAME` of the command line."""
    parts = (part.partition("=") for part in text.split(","))
    found = {name: value for name, _, value in parts}
    if unknown := [name for name in found if name not in ("image", "caption") or not found[name]]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no column: give image=NAME,caption=NAME, or one of them")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="a file or a folder in one of the layouts of docs/your_data.md")
    parser.add_argument("out", type=Path, help="a new folder; then: train.py dataset=folder dataset.path=OUT")
    parser.add_argument(
        "--columns", type=columns, default={}, help="image=NAME,caption=NAME if the columns have unusual names"
    )
    parser.add_argument("--images", type=Path, help="what image paths are relative to (default: the list's folder)")
    parser.add_argument("--separator", type=separator, help="of a list: one character, or tab (default: recognised)")
    parser.add_argument(
        "--quoting",
        choices=("minimal", "none"),
        default="minimal",
        help="none: quotation marks are ordinary characters",
    )
    parser.add_argument("--per-shard", type=int, default=10_000, help="source pairs per shard (default: 10000)")
    parser.add_argument(
        "--on-error", choices=("fail", "skip"), default="fail", help="what to do with a pair that is no sample"
    )
    add_processes(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    options = Options(arguments.columns, arguments.separator, arguments.quoting, arguments.images)
    how = arguments.per_shard, arguments.on_error, max(1, arguments.processes)
    return to_shards(arguments.source, arguments.out, options, *how, progress_console()).sentences()
