# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""Reads the members of a row by offset, and checks the tar header before each."""

import io
import json
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helip.artifacts.members import IMAGE, JSON, TEXT
from helip.artifacts.tar import BLOCK, is_header
from helip.errors import HelipError
from helip.secrets import without_credentials
from helip.storage.base import Prefetching, Storage, scheme_of
from helip.storage.schemes import Storages

if TYPE_CHECKING:
    from PIL import Image

    from helip.artifacts.shards import ShardIndex

MOST_BYTES = 0x7FFFF000 - BLOCK  # maximum of one pread on Linux


class Unreadable(ValueError):
    """This row has no usable image or caption; the message says why."""


@dataclass(frozen=True)
class Sample:
    """One pair of the shards.

    Attributes:
        image: encoded bytes, empty if the sample has no image.
        caption: from the caption file, or else from the field `caption` of the .json; empty if there is neither.
        metadata: the .json.
    """

    row: int
    key: str
    image: bytes
    caption: str
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        return f"Sample(row={self.row}, key={self.key!r}, image={len(self.image):,} bytes, caption={self.caption!r})"

    @property
    def picture(self) -> "Image.Image":
        """The image opened by Pillow, with Pillow's exceptions."""
        from PIL import Image

        return Image.open(io.BytesIO(self.image))


class MemberReader:
    """Reads members of a ShardIndex. Pickles and copies do not contain open files."""

    def __init__(self, index: "ShardIndex") -> None:
        self.index, self.storages = index, Storages()
        self._open: dict[int, Storage] = {}  # shards that are unchanged since they were indexed

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}, "storages": copy(self.storages)}

    def member(self, row: int, column: int) -> bytes:
        """The bytes of a member; empty if the sample has none.

        Raises:
            Unreadable: the shard is too short.
            HelipError: the shard changed since it was indexed, or cannot be opened.
        """
        index = self.index
        size = int(index.size[row, column])
        if size <= 0:
            return b""
        if size > MOST_BYTES:
            raise Unreadable(f"it has a member of {size:,} bytes")
        shard = int(index.shard_of(row))
        start, length = int(index.offset[row, column]) - BLOCK, BLOCK + size
        storage = self._open.get(shard) or self._checked(shard)
        data = storage.read(index.shards[shard], start, length) if start >= 0 else bytes(length)  # no header
        if len(data) != length:
            raise Unreadable("its shard ends before its bytes")
        if not is_header(data, index.key(row), size):
            raise HelipError(
                f"{index.where(row)} does not lie where it was indexed: the shard changed, or the shard index is "
                "damaged; run the command again, or mine.py verify=true"
            )
        return data[BLOCK:]

    @property
    def ahead(self) -> int:
        """Rows that may be requested before they are read; 0 if no storage of the shards fetches ahead."""
        storages = [self.storages.of(shard) for shard in {scheme_of(one): one for one in self.index.shards}.values()]
        return max((storage.ahead for storage in storages if isinstance(storage, Prefetching)), default=0)

    def prefetch(self, row: int, columns: Iterable[int]) -> None:
        """Fetch members of a row in the background, if their storage can do that."""
        shard = self.index.shards[int(self.index.shard_of(row))]
        storage = self.storages.of(shard)
        if not isinstance(storage, Prefetching):
            return
        for column in columns:
            start, size = int(self.index.offset[row, column]) - BLOCK, int(self.index.size[row, column])
            if start >= 0 and 0 < size <= MOST_BYTES:
                storage.prefetch(shard, start, BLOCK + size)

    def metadata(self, row: int) -> dict[str, Any]:
        """The .json member as a dictionary; empty if the sample has none. Raises Unreadable if it is damaged."""
        raw = self.member(row, JSON)
        try:
            value = json.loads(raw) if raw else {}
        except (ValueError, RecursionError) as error:
            raise Unreadable("its .json cannot be parsed") from error
        return value if isinstance(value, dict) else {}

    def sample(self, row: int) -> Sample:
        """A whole row. Raises Unreadable for a caption that is not UTF-8 or a .json that cannot be parsed."""
        metadata = self.metadata(row)
        caption = decoded(self.member(row, TEXT)) or metadata.get("caption")
        text = clean_caption(caption) if isinstance(caption, str) else ""
        return Sample(row, self.index.key(row), self.member(row, IMAGE), text, metadata)

    def _checked(self, shard: int) -> Storage:
        place = self.index.shards[shard]
        storage = self.storages.of(place)
        if storage.size(place) != int(self.index.shard_bytes[shard]):
            place = without_credentials(str(place))
            raise HelipError(f"shard {place} changed since it was indexed: run the command again to index it anew")
        self._open[shard] = storage
        return storage


def decoded(raw: bytes) -> str:
    """UTF-8 text. Raises Unreadable for other encodings; the usual case is a .txt in Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"its caption is not UTF-8 (byte {error.start} is {raw[error.start]:#x})") from error


def clean_caption(text: str) -> str:
    """The text without a leading byte-order mark, which some editors write, and without surrounding white space."""
    return text.removeprefix("\ufeff").strip()
