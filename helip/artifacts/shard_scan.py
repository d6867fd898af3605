# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
"""The scan of shards: which samples each tar holds and where their members lie, by processes where there are many.

Legend: n rows of one shard; the three columns are image, caption (.txt), metadata (.json).
"""

import hashlib
import json
import multiprocessing
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from helip.artifacts.kinds import what_it_is
from helip.artifacts.members import META, NAME, TEXT, Arrangement, Members, arrange
from helip.artifacts.tar import Member, TarError, bytes_of, walk
from helip.storage.base import Shard
from helip.storage.schemes import Storages

SHARDS_PER_PROCESS = 16  # assumption: below it the start of a process costs more than the scan of its shards
SHORT = 16  # bytes: a caption up to it is looked at, which lies in what the scan holds of the tar anyway
LEFTOVERS = ("nan", "none", "null")  # what pandas and Python write for a missing text
BLANK = "blank"
MISSING = Member("", 0, -1)


@dataclass(frozen=True)
class ShardScan:
    """The scan of one shard in 61 bytes a row, where Python lists held 374 (measured with keys of nine letters).

    Attributes:
        keys: (n,) Arrow strings.
        offset: (n, 3) int64.
        size: (n, 3) int32; int64 where a member has 2 GiB or more.
        problem: why it ends early, if it does.
        passed_over: images and captions beside the chosen ones, by suffix.
        leftovers: captions of the caption files that are `nan`, `none`, `null` or blank.
    """

    keys: pa.Array
    offset: np.ndarray
    size: np.ndarray
    fingerprint: str
    problem: str | None
    passed_over: dict[str, int] = field(default_factory=dict[str, int])
    leftovers: dict[str, int] = field(default_factory=dict[str, int])


class _Rows:
    """Rows of a scan as they are found, in 56 bytes and the key's letters each."""

    def __init__(self) -> None:
        self.count, self.offset, self.size = 0, array("q"), array("q")
        self._text, self._ends = bytearray(), array("q", [0])

    def add(self, key: str, found: list[Member], arrangement: Arrangement) -> None:
        """The rows of adjacent members of one key."""
        text = printable(key).encode()
        found.append(MISSING)  # at the place -1
        for image, caption, metadata in arrangement.rows:
            self._text += text
            self._ends.append(len(self._text))
            (_, first, size), (_, second, size_2), (_, third, size_3) = found[image], found[caption], found[metadata]
            self.offset.extend((first, second, third))
            self.size.extend((size, size_2, size_3))
            self.count += 1

    def arrays(self) -> tuple[pa.Array, np.ndarray, np.ndarray]:
        """Keys, offsets and sizes."""
        offset, size = (np.array(column, np.int64).reshape(-1, 3) for column in (self.offset, self.size))
        small = size.max(initial=0) <= np.iinfo(np.int32).max
        keys = pa.LargeStringArray.from_buffers(self.count, pa.py_buffer(self._ends), pa.py_buffer(bytes(self._text)))
        return keys, offset, size.astype(np.int32) if small else size


def scan_shard(shard: Shard, members: Members, storages: Storages | None = None) -> ShardScan:
    """Walk over the headers of one tar; what lies before damage is kept."""
    data = bytes_of((storages or Storages()).of(shard), shard)
    rows, problem, as_format_1 = _Rows(), None, True
    passed_over, leftovers = Counter[str](), Counter[str]()
    hasher = hashlib.sha256(f"{shard.name}\0{len(data)}".encode("utf-8", "surrogateescape"))
    key, found, suffixes = "", list[Member](), list[str]()
    kinds: dict[tuple[str, ...], Arrangement] = {}

    def close() -> None:
        """The members of `key` are complete."""
        nonlocal as_format_1
        if found:
            kind = tuple(suffixes)
            if (arrangement := kinds.get(kind)) is None:
                arrangement = kinds[kind] = arrange(kind, members)
            rows.add(key, found, arrangement)
            as_format_1 = as_format_1 and arrangement.as_format_1
            if arrangement.passed_over:
                passed_over.update(arrangement.passed_over)
        found.clear()
        suffixes.clear()

    try:
        for member in walk(data):
            name, offset, size = member
            hasher.update(f"\0{name}\0{offset}\0{size}".encode("utf-8", "surrogateescape"))
            match = NAME.match(name)
            if match is None:
                continue
            if name.startswith("__") and META.match(name):
                as_format_1 = False
                continue
            own, suffix = match.groups()
            if own != key:
                close()
                key = own
            found.append(member)
            suffixes.append(suffix := suffix.lower())
            if size <= SHORT and members.column(suffix) == TEXT:
                leftovers.update(_leftover(data[offset : offset + size]))
    except TarError as error:
        close()
        what = "" if error.offset else what_it_is(data[0:SHORT], shard)
        problem = what or f"{printable(shard.name)} is damaged after {rows.count} samples{_announced(shard)}: {error}"
    close()
    if not as_format_1:  # rows that format 1 grouped in another way are other rows
        hasher.update(b"\0rows" + rows.offset.tobytes() + rows.size.tobytes())
    return ShardScan(*rows.arrays(), hasher.hexdigest(), problem, dict(passed_over), dict(leftovers))


def _leftover(caption: bytes) -> list[str]:
    text = caption.removeprefix(b"\xef\xbb\xbf").strip().lower().decode("latin-1")
    return [text] if text in LEFTOVERS else [] if text else [BLANK]


def _announced(shard: Shard) -> str:
    """What img2dataset's NNNNN_stats.json beside a local tar promised."""
    if not isinstance(shard, Path):
        return ""
    try:
        stats = shard.with_name(f"{shard.stem}_stats.json")
        return f" (of {json.loads(stats.read_text())['successes']} by {printable(stats.name)})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def scan_shards(shards: Sequence[Shard], members: Members, on_shard: Callable[[int], None]) -> list[ShardScan]:
    """The scans of all shards in order; `on_shard` is told how many are done."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores, len(shards) // SHARDS_PER_PROCESS)
    results: list[ShardScan] = []
    storages = Storages()
    for shard in shards:
        storages.of(shard)  # so that other processes read by what was registered here
    scan = partial(scan_shard, members=members, storages=storages)

    def collect(scans: Iterable[ShardScan]) -> list[ShardScan]:
        for one in scans:
            results.append(one)
            on_shard(len(results))
        return results

    if processes > 1:
        # They start by running the caller's program, and die of it where that has no `if __name__ == "__main__":`.
        with (
            suppress(BrokenProcessPool),
            ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool,
        ):
            return collect(pool.map(scan, shards, chunksize=4))
    return collect(map(scan, shards[len(results) :]))


def printable(name: str) -> str:
    """A name whose bytes are no UTF-8 becomes readable text; the row, not the key, is the identity."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
