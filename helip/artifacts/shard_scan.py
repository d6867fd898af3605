# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
"""The scan of shards: which samples each tar holds and where their members lie, by processes where there are many.

Legend: n rows of one shard; the three columns are image, caption (.txt), metadata (.json).
"""

import hashlib
import json
import multiprocessing
import os
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from helip.artifacts.tar import TarError, scan_tar

IMAGE, TEXT, JSON = 0, 1, 2
COLUMN = dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"), IMAGE) | {"txt": TEXT, "json": JSON}
# webdataset's rule: the key is the path up to the first dot of the base name, the extension is the rest.
NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
SHARDS_PER_PROCESS = 16  # assumption: below it the start of a process costs more than the scan of its shards


@dataclass(frozen=True)
class ShardScan:
    """The scan of one shard in 61 bytes a row, where Python lists held 374 (measured with keys of nine letters).

    Attributes:
        keys: (n,) Arrow strings.
        offset: (n, 3) int64.
        size: (n, 3) int32; int64 where a member has 2 GiB or more.
        problem: why it ends early, if it does.
    """

    keys: pa.Array
    offset: np.ndarray
    size: np.ndarray
    fingerprint: str
    problem: str | None


class _Rows:
    """Rows of a scan as they are found, in 56 bytes and the key's letters each."""

    def __init__(self) -> None:
        self.count, self.offset, self.size = 0, array("q"), array("q")
        self._text, self._ends = bytearray(), array("q", [0])

    def add(self, key: str) -> None:
        self._text += printable(key).encode()
        self._ends.append(len(self._text))
        self.offset.extend((0, 0, 0))
        self.size.extend((-1, -1, -1))
        self.count += 1

    def arrays(self) -> tuple[pa.Array, np.ndarray, np.ndarray]:
        """Keys, offsets and sizes."""
        offset, size = (np.array(column, np.int64).reshape(-1, 3) for column in (self.offset, self.size))
        small = size.max(initial=0) <= np.iinfo(np.int32).max
        keys = pa.LargeStringArray.from_buffers(self.count, pa.py_buffer(self._ends), pa.py_buffer(bytes(self._text)))
        return keys, offset, size.astype(np.int32) if small else size


def scan_shard(path: Path) -> ShardScan:
    """Walk over the headers of one tar; what lies before damage is kept."""
    rows, problem, previous = _Rows(), None, None
    hasher = hashlib.sha256(f"{path.name}\0{path.stat().st_size}".encode("utf-8", "surrogateescape"))
    try:
        for member in scan_tar(path):
            hasher.update(f"\0{member.name}\0{member.offset}\0{member.size}".encode("utf-8", "surrogateescape"))
            match = NAME.match(member.name)
            if match is None:
                continue
            key, column = match[1], COLUMN.get(match[2].lower())
            if key != previous or (column is not None and rows.size[column - 3] >= 0):
                rows.add(key)
                previous = key
            if column is not None:
                rows.offset[column - 3], rows.size[column - 3] = member.offset, member.size
    except TarError as error:
        problem = f"{printable(path.name)} is damaged after {rows.count} samples{_announced(path)}: {error}"
    return ShardScan(*rows.arrays(), hasher.hexdigest(), problem)


def _announced(path: Path) -> str:
    """What img2dataset's NNNNN_stats.json beside the tar promised."""
    stats = path.with_name(f"{path.stem}_stats.json")
    try:
        return f" (of {json.loads(stats.read_text())['successes']} by {printable(stats.name)})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def scan_shards(paths: Sequence[Path], on_shard: Callable[[int], None]) -> list[ShardScan]:
    """The scans of all shards in order; `on_shard` is told how many are done."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores, len(paths) // SHARDS_PER_PROCESS)
    results: list[ShardScan] = []

    def collect(scans: Iterable[ShardScan]) -> list[ShardScan]:
        for scan in scans:
            results.append(scan)
            on_shard(len(results))
        return results

    if processes > 1:
        # They start by running the caller's program, and die of it where that has no `if __name__ == "__main__":`.
        with (
            suppress(BrokenProcessPool),
            ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool,
        ):
            return collect(pool.map(scan_shard, paths, chunksize=4))
    return collect(map(scan_shard, paths[len(results) :]))


def printable(name: str) -> str:
    """A name whose bytes are no UTF-8 becomes readable text; the row, not the key, is the identity."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
