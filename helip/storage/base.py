"""Where the bytes of shards lie: the four questions that HELIP asks of a place, and the address of a shard there.

Nothing else in HELIP opens a shard. A new scheme is one file `helip/storage/SCHEME.py` with a class `Scheme`, or any
class of one's own that `paths.storages` names.
"""

from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from helip.secrets import without_credentials


class Address(str):
    """A shard that is no local file, `s3://bucket/00000.tar`; with the two attributes of a Path that messages use."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The last component without a query, which may hold a signature."""
        return PurePosixPath(self.split("?", 1)[0]).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "Address":
        return Address(without_credentials(self.split("?", 1)[0].rpartition("/")[0]))


Shard = Path | Address


class Storage(Protocol):
    """What a place of shards can do. Copies and pickles of it hold no open file or connection.

    Attributes:
        window: bytes that a scan of headers reads at once.
    """

    window: int

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer where the shard ends before.

        Raises:
            HelipError: the shard cannot be opened or reached.
        """
        ...

    def size(self, shard: Shard) -> int:
        """Bytes of the whole shard. Raises HelipError when it is not there."""
        ...

    def stamp(self, shard: Shard) -> int | str:
        """What differs when the shard was replaced: a time of change, an ETag."""
        ...

    def changed(self, shard: Shard) -> float:
        """When the shard came to be what and where it is, in seconds since the epoch; 0 where the place cannot say."""
        ...

    def list(self, pattern: str) -> "list[Shard]":
        """The files of a pattern with `*`, `?` or `[...]`, or the .tar files of a folder, sorted; the file of a plain
        name; nothing where there is none.
        """
        ...


@runtime_checkable
class Prefetching(Protocol):
    """A storage that can fetch bytes in the background, before they are read.

    Attributes:
        ahead: rows that may be asked for before they are read.
    """

    @property
    def ahead(self) -> int: ...

    def prefetch(self, shard: Shard, offset: int, size: int) -> None:
        """Fetch these bytes soon, in the order of the calls. Returns at once; a failure shows when they are read."""
        ...


def as_shard(address: str | Path) -> Shard:
    """A local path, or an address where a scheme is given."""
    text = str(address)
    if isinstance(address, Address) or (isinstance(address, str) and "://" in text):
        return Address(text)
    return Path(address)


def scheme_of(shard: str | Path) -> str:
    """`file` for what has none."""
    return "file" if isinstance(shard, Path) or "://" not in shard else shard.split("://", 1)[0].lower()
