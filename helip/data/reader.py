"""Random access to the samples of plain tars: two reads per row, no extraction."""

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from helip.artifacts.member_reader import MemberReader, Unreadable, clean_caption, decoded
from helip.artifacts.members import IMAGE, JSON, TEXT
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError

__all__ = ["RawSample", "SampleReader", "Unreadable", "clean_caption", "content_digest", "random_read_rate"]

Caption = str | Mapping[str, float]
READ_SECONDS, MOST_READS = 0.5, 512  # limits of a measurement of the read rate
LEFT_OUT = ("nan",)  # written by pandas for missing text; `none` and `null` are words


@dataclass(frozen=True)
class RawSample:
    """One pair as stored in the shard."""

    row: int
    image: bytes
    captions: tuple[str, ...]  # at least one, none of them empty
    weights: tuple[float, ...] | None = None  # the probability of each; None: equal


@dataclass(frozen=True)
class CaptionRule:
    """The sources of captions, and captions that count as missing.

    Attributes:
        sources: `txt` for the caption file, or a field of the .json member, which is a string or a list of strings.
            Or several of these with probabilities. Captions of one list share its probability; the probability of a
            source that a row lacks goes to the others.
        left_out: captions that count as missing, in any case of letters.
    """

    sources: Caption = "txt"
    left_out: tuple[str, ...] = LEFT_OUT

    @classmethod
    def of(cls, caption: "Caption | CaptionRule") -> "CaptionRule":
        return caption if isinstance(caption, CaptionRule) else cls(caption)

    @property
    def names(self) -> list[str]:
        return [self.sources] if isinstance(self.sources, str) else list(self.sources)


class SampleReader(MemberReader):
    """Reads rows of a ShardIndex by offset.

    Args:
        index: the dataset.
        caption: a CaptionRule, or its sources; the default rule leaves out `nan`.
    """

    def __init__(self, index: ShardIndex, caption: Caption | CaptionRule = "txt") -> None:
        super().__init__(index)
        self.rule = rule = CaptionRule.of(caption)
        self.sources = {rule.sources: 1.0} if isinstance(rule.sources, str) else dict(rule.sources)
        if not self.sources or not all(weight > 0 for weight in self.sources.values()):
            raise HelipError(f"data.caption={rule.sources}: give a name, or several with probabilities above 0")
        self._left_out = frozenset(text.lower() for text in rule.left_out)

    def read(self, row: int) -> RawSample:
        """Read a row. Raises Unreadable if it has no image or no caption, HelipError if its shard changed."""
        image = self.member(row, IMAGE)
        if not image:
            raise Unreadable("it has no image")
        captions, weights = self._weighted(row)
        return RawSample(row, image, captions, weights)

    def fetch_ahead(self, row: int) -> None:
        """Fetch the bytes for `read` in the background, if the row's storage can do that."""
        texts = {TEXT if source == "txt" else JSON for source in self.sources}
        self.prefetch(row, (IMAGE, *texts))

    def captions(self, row: int) -> tuple[str, ...]:
        """All captions of a row. Raises Unreadable if there is none."""
        return self._weighted(row)[0]

    def _weighted(self, row: int) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
        """All captions of a row, and their probabilities if the sources have some."""
        if isinstance(self.rule.sources, str):
            return self._source(row, self.rule.sources), None
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
            found: list[Any] = [self.member(row, TEXT)]
        else:
            value = self.metadata(row).get(source)
            found = value if isinstance(value, list) else [value]
        try:
            texts = [decoded(text) if isinstance(text, bytes) else text for text in found]
            captions = tuple(filter(None, (clean_caption(text) for text in texts if isinstance(text, str))))
            "".join(captions).encode("utf-8")  # JSON can hold lone surrogates, which tokenizers refuse
        except UnicodeError as error:
            raise Unreadable("its caption is not UTF-8") from error
        kept = tuple(caption for caption in captions if caption.lower() not in self._left_out)
        if not captions:
            raise Unreadable(f"its caption ({source}) is missing or empty")
        if not kept:
            raise Unreadable(f"its caption ({source}) is {captions[0]!r}, which data.drop_captions leaves out")
        return kept

    def image_bytes(self, row: int) -> bytes:
        return self.member(row, IMAGE)


def random_read_rate(reader: SampleReader, rows: np.ndarray) -> float:
    """Random reads per second of some of the (n,) rows in one process, with the current state of the disk cache."""
    own, tried = copy(reader), 0  # a copy, so that the caller's reader has no open files
    began = time.perf_counter()
    for row in np.random.default_rng().choice(rows, min(MOST_READS, len(rows)), replace=False):
        with suppress(Unreadable):
            own.read(int(row))
        tried += 1
        if time.perf_counter() - began > READ_SECONDS:
            break
    return tried / (time.perf_counter() - began)


def content_digest(content: bytes | str) -> np.int64:
    """63 bits that are equal for equal bytes, to recognise copies; not negative, which would mean "no group"."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return np.frombuffer(hashlib.blake2b(raw, digest_size=8).digest(), np.int64)[0] & np.int64(2**63 - 1)


def content_digests(raw: RawSample) -> tuple[np.int64, np.int64]:
    """Digests of the image and of the first caption of a row, as an EmbeddingStore holds them."""
    return content_digest(raw.image), content_digest(raw.captions[0])


def url_of(reader: SampleReader, row: int) -> str | None:
    """The `url` of the .json member; None if it is missing or not valid text."""
    try:
        url = reader.metadata(row).get("url")
        if not isinstance(url, str) or not url:
            return None
        url.encode("utf-8")  # JSON can hold lone surrogates
        return url
    except (Unreadable, UnicodeError):
        return None


def caption_of(reader: SampleReader, row: int) -> str | None:
    """The first caption of a row; None if it has none."""
    try:
        return reader.captions(row)[0]
    except Unreadable:
        return None
