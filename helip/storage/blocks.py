"""A bounded cache of blocks of remote shards on the local disk, shared by the workers and ranks of a machine.

Each block is one file, named by the address, the version and the number of the block. A file gets its name after all of
its bytes are written, so a named block is complete; another version of a shard has other names. The least recently used
blocks are deleted first. A process checks the total size whenever it has written a sixteenth of the limit, so the cache
may exceed the limit by a sixteenth per process.
"""

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

BLOCK = 1 << 20  # bytes; a pair has 30 to 100 kB, and training reads its neighbours soon
REFRESH = 60.0  # seconds: resolution of "recently used"
KEEP = 0.8  # share of the limit that is left after blocks were deleted


class BlockCache:
    """Blocks by (what, number); `what` names a shard and its version."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit, self._written = folder, limit, 0

    def get(self, what: str, number: int, start: int, stop: int) -> bytes | None:
        """Bytes `start` to `stop` (exclusive) of a block; None if the block is not cached."""
        path = self._path(what, number)
        try:
            with open(path, "rb") as file:
                state = os.fstat(file.fileno())
                if state.st_mtime + REFRESH < time.time():
                    with suppress(OSError):
                        os.utime(path)
                return os.pread(file.fileno(), stop - start, start)
        except FileNotFoundError:
            return None

    def put(self, what: str, number: int, data: bytes) -> None:
        """Write a block. If the write fails (a full disk), the block is fetched again when it is needed."""
        path = self._path(what, number)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
            try:
                with open(handle, "wb") as file:
                    file.write(data)
                os.replace(temporary, path)
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise
        self._written += len(data)
        if self._written * 16 >= self.limit:
            self._written = 0
            self._shrink()

    def _path(self, what: str, number: int) -> Path:
        name = hashlib.sha256(f"{what}\0{BLOCK}".encode()).hexdigest()[:32]
        return self.folder / name[:2] / f"{name}-{number:x}"

    def _shrink(self) -> None:
        """Delete the least recently used blocks if the total size is over the limit."""
        with suppress(Timeout, OSError), FileLock(self.folder / "lock", timeout=0):
            found: list[tuple[float, int, str]] = []
            for entry in (
                inner for folder in os.scandir(self.folder) if folder.is_dir() for inner in os.scandir(folder)
            ):
                with suppress(FileNotFoundError):
                    state = entry.stat()
                    found.append((state.st_mtime, state.st_size, entry.path))
            total = sum(size for _, size, _ in found)
            if total <= self.limit:
                return
            for _, size, path in sorted(found):
                with suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size
                if total <= KEEP * self.limit:
                    return
