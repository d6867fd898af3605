"""A copy of shards with smaller pictures, which are faster to read and decode, and with the same rows and captions.

A model that sees 224 pixels does not need a picture of 512 pixels decoded in every epoch. Keys, rows, captions and
.json are copied byte for byte. The pixels change slightly, so the copy has its own fingerprint, embeddings and hard
pairs.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from helip.artifacts.atomic import read_json, write_json
from helip.artifacts.members import IMAGE
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError
from helip.formats.options import add_processes, progress_console
from helip.formats.pixels import BROKEN, RESIZED, SMALL, Pixels, PixelTask, write_smaller
from helip.formats.resumable import QUIET, partial_folder, run_tasks
from helip.storage.schemes import Storages

VERSION = 1
MANIFEST = "resize.json"


@dataclass
class Resized:
    """Number of images by outcome, and the problems of damaged shards."""

    images: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list[str])
    shards: int = 0

    def sentences(self) -> list[str]:
        """One line for each fact."""
        counts = ", ".join(f"{self.images[name]:,} {name}" for name in (RESIZED, SMALL, BROKEN))
        lines = [f"{self.images.total():,} images in {self.shards:,} shards: {counts}"]
        if self.images[BROKEN]:
            lines += [f"warning: {self.images[BROKEN]:,} images cannot be read and were copied unchanged"]
        return lines + [f"warning: {problem}; members before the damage were kept" for problem in self.problems]


def resize(
    source: str | Path | list[str], out: Path, pixels: Pixels, processes: int = 1, console: Console = QUIET
) -> Resized:
    """Write the shards of `source` to `out` under the same names, and resize.json, which records their origin.

    Args:
        source: as dataset.path; local or remote.
        out: a new folder, which appears when all shards are done; an interrupted run resumes.

    Raises:
        HelipError: no shards, two of one name, a setting out of range, or rows that differ from those of the source.
    """
    if pixels.side < 1 or not 1 <= pixels.quality <= 100:
        raise HelipError(f"--side {pixels.side} --quality {pixels.quality}: a side is above 0, a quality from 1 to 100")
    index, storages, done = ShardIndex.build(source), Storages(), Resized()
    names = Counter(shard.stem for shard in index.shards)
    if twice := [name for name, count in names.items() if count > 1]:
        raise HelipError(f"{source} has {names[twice[0]]} shards named {twice[0]}: resize each folder by itself")
    stamps = [storages.stamp(shard) for shard in index.shards]
    settings = {"version": VERSION, "source": index.fingerprint, "settings": pixels.described()}
    with partial_folder(out, settings | {"stamps": stamps}, console) as folder:
        images = np.split(index.offset[:, IMAGE], index.starts[1:-1])
        tasks = (PixelTask(folder, *one, pixels, storages) for one in zip(index.shards, images, strict=True))
        for facts in run_tasks(tasks, write_smaller, processes, "resizing shards", console):
            done.images.update(facts["images"])
            done.problems += [facts["problem"]] if facts["problem"] else []
            done.shards += 1
        copy = ShardIndex.build([folder / f"{shard.stem}.tar" for shard in index.shards])
        equal = copy.keys.equals(index.keys) and (copy.size[:, 1:] == index.size[:, 1:]).all()
        if not equal or done.images.total() != (index.size[:, IMAGE] >= 0).sum():
            raise HelipError(f"the shards of {source} changed while they were read: run the command again")
        origin = {"fingerprint": index.fingerprint, "made_of": made_of(index)}
        facts = {"source": origin, "fingerprint": copy.fingerprint, "rows": len(copy), "images": dict(done.images)}
        write_json(folder / MANIFEST, settings | facts)
    return done


def made_of(index: ShardIndex) -> dict[str, object] | None:
    """The manifest of a source that was itself resized; None for other sources."""
    place = index.shards[0].parent
    manifest = place / MANIFEST if isinstance(place, Path) else None
    return read_json(manifest) if manifest and manifest.is_file() else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a folder, a file, DIR/{00000..00331}.tar, or addresses of remote shards")
    parser.add_argument("out", type=Path, help="a new folder; then: dataset.path=OUT")
    parser.add_argument("--side", type=int, required=True, help="pixels of the shorter side; nothing is enlarged")
    parser.add_argument("--quality", type=int, default=Pixels.quality, help="of the JPEGs (default: 95)")
    add_processes(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    pixels, processes = Pixels(arguments.side, arguments.quality), max(1, arguments.processes)
    return resize(arguments.source, arguments.out, pixels, processes, progress_console()).sentences()
