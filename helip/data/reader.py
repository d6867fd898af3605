"""Random access to the samples of plain tars: two `pread`s per row, no extraction.

Decision: os.pread at the scanned offsets; webdataset 1.0 ships no random access, and the separate `wids` package reads
far fewer samples per second (benchmarks/loader.py).
"""

import errno
import hashlib
import json
import os
import resource
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from helip.artifacts.shards import IMAGE, JSON, TEXT, ShardIndex
from helip.artifacts.tar import BLOCK, is_header
from helip.errors import HelipError

MOST_BYTES = 0x7FFFF000 - BLOCK  # that one pread gives (Linux)


class Unreadable(ValueError):
    """This row has no usable image or caption; the message says why."""


@dataclass(frozen=True)
class RawSample:
    """One pair as it lies in the shard."""

    row: int
    image: bytes
    captions: tuple[str, ...]  # at least one, none of them empty
    weights: tuple[float, ...] | None = None  # the probability of each; None: equal


class SampleReader:
    """Reads rows of a ShardIndex by offset.

    Args:
        index: the dataset.
        caption: `txt` for the .txt member, else the name of a field of the .json member: a string or a list of strings.
            Or several of these with their probabilities; captions of one list share theirs, and what a row lacks gives
            its probability to the others.
    """

    def __init__(self, index: ShardIndex, caption: str | Mapping[str, float] = "txt") -> None:
        self._files: OrderedDict[int, int] = OrderedDict()  # first, because __del__ reads it
        self.index, self.caption = index, caption
        self.sources = {caption: 1.0} if isinstance(caption, str) else dict(caption)
        if not self.sources or not all(weight > 0 for weight in self.sources.values()):
            raise HelipError(f"data.caption={caption}: give a name, or several with probabilities above 0")
        self._limit = max(8, min(128, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": OrderedDict()}  # descriptors stay with the process that opened them

    def __del__(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)

    def read(self, row: int) -> RawSample:
        """Raises Unreadable when the sample has no image bytes or no caption, HelipError when its shard changed."""
        image = self._member(row, IMAGE)
        if not image:
            raise Unreadable("it has no image")
        captions, weights = self._weighted(row)
        return RawSample(row, image, captions, weights)

    def captions(self, row: int) -> tuple[str, ...]:
        """The caption of a row, or all of them where the field is a list. Raises Unreadable when there is none."""
        return self._weighted(row)[0]

    def _weighted(self, row: int) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
        """All captions of a row, and their probabilities where the sources have some."""
        if isinstance(self.caption, str):
            return self._source(row, self.caption), None
        captions: list[str] = []
        weights: list[float] = []
        problem = ""
        for source, weight in self.sources.items():
            try:
                found = self._source(row, source)
            except Unreadable as error:
                problem = str(error)
                continue
            captions += found
            weights += [weight / len(found)] * len(found)
        if not captions:
            raise Unreadable(problem)
        return tuple(captions), tuple(weight / sum(weights) for weight in weights)

    def _source(self, row: int, source: str) -> tuple[str, ...]:
        if source == "txt":
            found: list[Any] = [self._member(row, TEXT)]
        else:
            value = self.metadata(row).get(source)
            found = value if isinstance(value, list) else [value]
        try:
            texts = [text.decode("utf-8") if isinstance(text, bytes) else text for text in found]
            captions = tuple(filter(None, (clean_caption(text) for text in texts if isinstance(text, str))))
            "".join(captions).encode("utf-8")  # JSON can hold halves of a character, which tokenizers refuse
        except UnicodeError as error:
            raise Unreadable("its caption is not UTF-8") from error
        if not captions:
            raise Unreadable(f"its caption ({source}) is missing or empty")
        return captions

    def metadata(self, row: int) -> dict[str, Any]:
        """The .json member as a dictionary; empty where the sample has none."""
        raw = self._member(row, JSON)
        try:
            value = json.loads(raw) if raw else {}
        except (ValueError, RecursionError) as error:
            raise Unreadable("its .json cannot be parsed") from error
        return value if isinstance(value, dict) else {}

    def image_bytes(self, row: int) -> bytes:
        return self._member(row, IMAGE)

    def _member(self, row: int, column: int) -> bytes:
        size = int(self.index.size[row, column])
        if size <= 0:
            return b""
        if size > MOST_BYTES:
            raise Unreadable(f"it has a member of {size:,} bytes")
        shard = int(self.index.shard_of(row))
        start, length = int(self.index.offset[row, column]) - BLOCK, BLOCK + size
        data = os.pread(self._descriptor(shard), length, start) if start >= 0 else bytes(length)  # no header
        if len(data) != length:
            raise Unreadable("its shard ends before its bytes")
        if not is_header(data, self.index.key(row), size):
            raise HelipError(
                f"{self.index.where(row)} is no longer where it was indexed: the shard changed, or the shard index is "
                "damaged; run the command again, or mine.py verify=true"
            )
        return data[BLOCK:]

    def _descriptor(self, shard: int) -> int:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        path = self.index.shards[shard]
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            remedy = "raise `ulimit -n`" if error.errno in (errno.EMFILE, errno.ENFILE) else "restore it"
            raise HelipError(
                f"shard {path} can no longer be opened ({error.strerror}): {remedy}, then resume"
            ) from error
        if os.fstat(descriptor).st_size != int(self.index.shard_bytes[shard]):
            os.close(descriptor)
            raise HelipError(f"shard {path} changed since it was indexed: run the command again to index it anew")
        if len(self._files) >= self._limit:
            os.close(self._files.popitem(last=False)[1])
        self._files[shard] = descriptor
        return descriptor


def clean_caption(text: str) -> str:
    """Without the byte-order mark with which some editors begin a file, and without white space around it."""
    return text.removeprefix("\ufeff").strip()


def random_read_rate(reader: SampleReader, rows: np.ndarray, seconds: float = 0.5, most: int = 512) -> float:
    """Random reads per second of one process: what partners cost on this disk, as cold as it is now.

    Args:
        reader: of the shards; a copy of it is used.
        rows: (n,) rows to draw from.
        seconds: to spend at most, but for the last read.
        most: reads at most.
    """
    own, tried = copy(reader), 0
    began = time.perf_counter()
    for row in np.random.default_rng().choice(rows, min(most, len(rows)), replace=False):
        with suppress(Unreadable):
            own.read(int(row))
        tried += 1
        if time.perf_counter() - began > seconds:
            break
    return tried / (time.perf_counter() - began)


def content_digest(content: bytes | str) -> np.int64:
    """64 bits that are equal for equal bytes, to recognise copies of an image or a caption."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return np.frombuffer(hashlib.blake2b(raw, digest_size=8).digest(), np.int64)[0]
