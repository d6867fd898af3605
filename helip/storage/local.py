"""Local files, read by `pread`; at most 128 of them are open at once.

Decision: os.pread at the scanned offsets; webdataset 1.0 ships no random access, and the separate `wids` package reads
far fewer samples per second (benchmarks/loader.py).
"""

import errno
import glob
import mmap
import os
import resource
from collections import OrderedDict
from pathlib import Path
from typing import Any

from helip.errors import HelipError
from helip.storage.base import Shard


class Local:
    """Implements helip.storage.base.Storage with at most 128 open files."""

    window = 8192  # holds a caption, a .json and the next header

    def __init__(self) -> None:
        self._files: OrderedDict[Shard, int] = OrderedDict()
        self._last: tuple[Shard | None, int] = (None, -1)  # comparing with this is cheaper than hashing a Path

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": OrderedDict(), "_last": (None, -1)}  # descriptors stay with the process that opened them

    def __del__(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor(shard), size, offset)

    def mapped(self, shard: Shard) -> mmap.mmap | bytes:
        """The whole shard as a memory map, which closes when it is garbage-collected; b"" for an empty file."""
        try:
            with open(shard, "rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""
        except OSError as error:
            raise _gone(shard, error) from error

    def size(self, shard: Shard) -> int:
        """Size of the open file; of the path if the file is not open."""
        return (os.fstat(self._files[shard]) if shard in self._files else _state(shard)).st_size

    def stamp(self, shard: Shard) -> int:
        return _state(shard).st_mtime_ns

    def changed(self, shard: Shard) -> float:
        state = _state(shard)  # a copy may keep the mtime of its original
        return max(state.st_mtime, state.st_ctime)

    def list(self, pattern: str) -> list[Shard]:
        path = Path(pattern)
        if path.is_dir():
            return [*sorted(path.glob("*.tar"))]
        if path.exists() or not glob.has_magic(pattern):
            return [path] if path.exists() else []
        return [Path(name) for name in sorted(glob.glob(pattern))]

    def _descriptor(self, shard: Shard) -> int:
        if shard is self._last[0]:
            return self._last[1]
        if (descriptor := self._files.get(shard)) is not None:
            self._files.move_to_end(shard)
            self._last = (shard, descriptor)
            return descriptor
        try:
            descriptor = os.open(shard, os.O_RDONLY)
        except OSError as error:
            raise _gone(shard, error) from error
        if len(self._files) >= max(8, min(128, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)):
            os.close(self._files.popitem(last=False)[1])
        self._files[shard] = descriptor
        self._last = (shard, descriptor)
        return descriptor


def _state(shard: Shard) -> os.stat_result:
    try:
        return os.stat(shard)
    except OSError as error:
        raise _gone(shard, error) from error


def _gone(shard: Shard, error: OSError) -> HelipError:
    remedy = "raise `ulimit -n`" if error.errno in (errno.EMFILE, errno.ENFILE) else "restore it"
    return HelipError(f"shard {shard} can no longer be opened ({error.strerror}): {remedy}, then resume")
