# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
"""The scan of shards: the samples of each tar and the offsets of their members; many shards use several processes.

Legend: n rows of one shard; the three columns are image, caption (.txt), metadata (.json).
"""

import hashlib
import multiprocessing
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from helip.artifacts.atomic import read_json
from helip.artifacts.kinds import what_it_is
from helip.artifacts.members import META, NAME, TEXT, Arrangement, Members, arrange
from helip.artifacts.tar import Member, TarError, bytes_of, printable, walk
from helip.environment import cores
from helip.storage.base import Shard
from helip.storage.schemes import Storages

SHARDS_PER_PROCESS = 16  # assumption: with fewer shards, starting a process costs more than scanning
SHORT = 16  # bytes: captions up to this size are checked; they lie in the data that the scan has read anyway
LEFTOVERS = ("nan", "none", "null")  # written by pandas and Python for missing text
BLANK = "blank"
MISSING = Member("", 0, -1)


@dataclass(frozen=True)
class ShardScan:
    """The scan of one shard, in 61 bytes per row instead of 374 with Python lists (measured with keys of 9 letters).

    Attributes:
        keys: (n,) Arrow strings.
        offset: (n, 3) int64.
        size: (n, 3) int32; int64 if a member has 2 GiB or more.
        problem: why the scan ended early, or None.
        passed_over: number of images and captions that were not chosen, by suffix.
        leftovers: number of caption files that are `nan`, `none`, `null` or blank.
    """

    keys: pa.Array
    offset: np.ndarray
    size: np.ndarray
    fingerprint: str
    problem: str | None
    passed_over: dict[str, int]
    leftovers: dict[str, int]


class _Rows:
    """Collects the rows of a scan, in 56 bytes each plus the key."""

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
    """Scan the headers of one tar; samples before damage are kept."""
    data = bytes_of((storages or Storages()).of(shard), shard)
    rows, problem, as_format_1 = _Rows(), None, True
    passed_over, leftovers = Counter[str](), Counter[str]()
    hasher = hashlib.sha256(f"{shard.name}\0{len(data)}".encode("utf-8", "surrogateescape"))
    key, found, suffixes = "", list[Member](), list[str]()
    kinds: dict[tuple[str, ...], Arrangement] = {}

    def close() -> None:
        """Add the rows of `key`, whose members are complete."""
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
    if not as_format_1:  # format 1 had other rows, so the fingerprint differs
        hasher.update(b"\0rows" + rows.offset.tobytes() + rows.size.tobytes())
    return ShardScan(*rows.arrays(), hasher.hexdigest(), problem, dict(passed_over), dict(leftovers))


def _leftover(caption: bytes) -> list[str]:
    text = caption.removeprefix(b"\xef\xbb\xbf").strip().lower().decode("latin-1")
    return [text] if text in LEFTOVERS else [] if text else [BLANK]


def _announced(shard: Shard) -> str:
    """The number of samples that img2dataset's NNNNN_stats.json announces for a local tar."""
    if not isinstance(shard, Path):
        return ""
    try:
        stats = shard.with_name(f"{shard.stem}_stats.json")
        return f" (of {read_json(stats)['successes']} by {printable(stats.name)})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def scan_shards(shards: Sequence[Shard], members: Members, on_shard: Callable[[int], None]) -> list[ShardScan]:
    """The scans of all shards in order; calls `on_shard` with the number of finished shards."""
    processes = min(cores(), len(shards) // SHARDS_PER_PROCESS)
    results: list[ShardScan] = []
    storages = Storages()
    for shard in shards:
        storages.of(shard)  # so that other processes know the storages that are registered here
    scan = partial(scan_shard, members=members, storages=storages)

    def collect(scans: Iterable[ShardScan]) -> list[ShardScan]:
        for one in scans:
            results.append(one)
            on_shard(len(results))
        return results

    if processes > 1:
        # Spawned processes import the caller's program, and fail if it lacks `if __name__ == "__main__":`.
        with (
            suppress(BrokenProcessPool),
            ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool,
        ):
            return collect(pool.map(scan, shards, chunksize=4))
    return collect(map(scan, shards[len(results) :]))
