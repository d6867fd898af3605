"""Compressed tars in the layout of webdataset, and plain tars with scattered members of a key."""

import bz2
import gzip
import lzma
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from helip.artifacts.atomic import atomic_file
from helip.artifacts.members import NAME
from helip.artifacts.tar import Member, TarError, printable, scan_tar
from helip.errors import HelipError
from helip.formats.sources import Item, Options, Source, captions_and_fields, chosen, damaged_text, passed_over

ARCHIVE = re.compile(r".\.(tar|tar\.(gz|bz2|xz)|tgz|tbz2|txz)$", re.IGNORECASE)
OPENERS: dict[str, Any] = {
    ".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".tbz2": bz2.open, ".xz": lzma.open, ".txz": lzma.open,
}  # fmt: skip


@dataclass(frozen=True)
class TarSlice:
    """A member of a plain tar."""

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with open(self.tar, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class ArchiveSource(Source):
    """A pair for each key, wherever its members lie in the tar, in the order of the first member of each key."""

    caption: str | None

    @property
    def kind(self) -> str:
        packed = bool(_opener(self.path))
        what = "compressed tar" if packed else "plain tar"
        many = f"{len(self.files):,} {what}s" if len(self.files) > 1 else f"a {what}"
        known = "" if packed else " (shards already: dataset=folder reads them, unless members of a key are scattered)"
        return f"{many} with KEY.jpg and KEY.txt, or another picture and text{known}"

    def items(self, scratch: Path) -> Iterator[Item]:
        spare = 0
        for number, file in enumerate(self.files):
            tar = _unpacked(file, scratch / f"{number:05d}.tar")
            for key, files in self._samples(tar, file):
                image, text, metadata = chosen(files)
                if image is None and text is None:
                    continue
                spare += passed_over(files)
                yield self._item(tar, f"{file.name}, key {key}", image, text, metadata)
        if spare:
            self.warnings.append(f"{spare:,} members were passed over: another picture or text has their key")

    def _samples(self, tar: Path, file: Path) -> Iterator[tuple[str, dict[str, Member]]]:
        samples: dict[str, dict[str, Member]] = {}
        try:
            for member in scan_tar(tar):
                if match := NAME.match(member.name):
                    samples.setdefault(match[1], {})[match[2].lower()] = member
        except TarError as error:
            self.warnings.append(f"{file.name} is damaged after {len(samples):,} samples: {error}")
        for key, files in samples.items():
            yield printable(key), files

    def _item(self, tar: Path, where: str, image: Member | None, text: Member | None, metadata: Member | None) -> Item:
        def content(member: Member) -> bytes:
            return TarSlice(tar, member.offset, member.size).read()

        try:
            words = content(text).decode("utf-8") if text and self.caption is None else None
            captions, fields = captions_and_fields(words, content(metadata) if metadata else None, self.caption)
        except ValueError as error:
            return damaged_text(where, error)
        return Item(where, TarSlice(tar, image.offset, image.size) if image else None, captions, fields)


def _opener(file: Path) -> Callable[[Path], IO[bytes]] | None:
    return OPENERS.get(file.suffix.lower())


def _unpacked(file: Path, plain: Path) -> Path:
    """A plain tar, which can be read by offset. Raises HelipError if the archive is damaged."""
    opener = _opener(file)
    if opener is None:
        return file
    if not plain.exists():
        try:
            with opener(file) as packed, atomic_file(plain) as temporary, open(temporary, "wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # an error of the disk, not of the archive
                raise
            raise HelipError(f"{file} is damaged ({error}): fetch it again") from error
    return plain


def recognise(path: Path, options: Options) -> ArchiveSource | None:
    files = [path] if path.is_file() else sorted(path.iterdir())
    files = [file for file in files if file.is_file() and ARCHIVE.search(file.name)]
    return ArchiveSource(files, options.columns.get("caption")) if files else None
