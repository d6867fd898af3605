"""A storage scheme: shards that lie uncompressed in a .zip, zip://ARCHIVE.zip/MEMBER."""

import os
from fnmatch import fnmatch
from zipfile import ZipFile, ZipInfo

from helip.storage.base import Address, Shard


class Zip:
    window = 1 << 16  # bytes that a scan of headers reads at once

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        with ZipFile(split(shard)[0]) as file, file.open(split(shard)[1]) as data:
            return data.read(size) if data.seek(offset) == offset else b""

    def size(self, shard: Shard) -> int:
        return known(shard).file_size

    def stamp(self, shard: Shard) -> int:
        return known(shard).CRC

    def changed(self, shard: Shard) -> float:
        return os.stat(split(shard)[0]).st_mtime

    def list(self, pattern: str) -> list[Shard]:
        archive, wanted = split(pattern)
        with ZipFile(archive) as file:
            return [Address(f"zip://{archive}/{n}") for n in sorted(file.namelist()) if fnmatch(n, wanted)]


def known(shard: Shard) -> ZipInfo:
    with ZipFile(split(shard)[0]) as file:
        return file.getinfo(split(shard)[1])


def split(address: Shard | str) -> tuple[str, str]:
    archive, _, member = str(address).removeprefix("zip://").partition(".zip")
    return f"{archive}.zip", member.strip("/") or "*.tar"
