"""Storages read the bytes of shards: the interface that they implement, and the address of a remote shard.

No other room opens a shard. A new scheme is one file `helip/storage/SCHEME.py` with a class `Scheme`, or a class that
`paths.storages` names.
"""

from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from helip.secrets import without_credentials


class Address(str):
    """The address of a remote shard, `s3://bucket/00000.tar`, with the attributes of a Path that messages use."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The last component, without a query, because a query may hold a signature."""
        return PurePosixPath(self.split("?", 1)[0]).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "Address":
        return Address(without_credentials(self.split("?", 1)[0].rpartition("/")[0]))


Shard = Path | Address


class Storage(Protocol):
    """Reads shards of one scheme. A copy or pickle of it holds no open file and no connection.

    Attributes:
        window: bytes that a scan of tar headers reads at once.
    """

    window: int

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer at the end of the shard. Raises HelipError if it cannot be reached."""
        ...

    def size(self, shard: Shard) -> int:
        """Bytes of the whole shard. Raises HelipError if it is missing."""
        ...

    def stamp(self, shard: Shard) -> int | str:
        """A value that changes when the shard is replaced: its modification time, or its ETag."""
        ...

    def changed(self, shard: Shard) -> float:
        """Time of the last change in seconds since the epoch; 0 if the storage does not know it."""
        ...

    def list(self, pattern: str) -> "list[Shard]":
        """The shards that a pattern with `*`, `?` or `[...]` matches, or the .tar files of a folder, sorted; or the
        shard of a plain name. Empty if there is none.
        """
        ...


@runtime_checkable
class Prefetching(Protocol):
    """A storage that can fetch bytes in the background, before they are read.

    Attributes:
        ahead: rows that may be requested before they are read.
    """

    @property
    def ahead(self) -> int: ...

    def prefetch(self, shard: Shard, offset: int, size: int) -> None:
        """Fetch these bytes soon, in the order of the calls. Returns at once; a failure shows when they are read."""
        ...


def as_shard(address: str | Path) -> Shard:
    """An Address if the text has a scheme, else a local path."""
    text = str(address)
    if isinstance(address, Address) or (isinstance(address, str) and "://" in text):
        return Address(text)
    return Path(address)


def scheme_of(shard: str | Path) -> str:
    """The scheme in lower case; `file` for a local path."""
    return "file" if isinstance(shard, Path) or "://" not in shard else shard.split("://", 1)[0].lower()
