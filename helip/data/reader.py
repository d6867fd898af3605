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
LEFT_OUT = ("nan",)  # what pandas writes for a missing text; `none` and `null` are words


@dataclass(frozen=True)
class RawSample:
    """One pair as it lies in the shard."""

    row: int
    image: bytes
    captions: tuple[str, ...]  # at least one, none of them empty
    weights: tuple[float, ...] | None = None  # the probability of each; None: equal


@dataclass(frozen=True)
class CaptionRule:
    """Where captions come from, and which are none.

    Attributes:
        sources: `txt` for the caption file, else the name of a field of the .json member: a string or a list of
            strings. Or several of these with their probabilities; captions of one list share theirs, and what a row
            lacks gives its probability to the others.
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
        caption: where captions come from, as CaptionRule; its sources alone leave out `nan`.
    """

    def __init__(self, index: ShardIndex, caption: Caption | CaptionRule = "txt") -> None:
        super().__init__(index)
        rule = CaptionRule.of(caption)
        self.rule, self.caption = rule, rule.sources
        self.sources = {rule.sources: 1.0} if isinstance(rule.sources, str) else dict(rule.sources)
        if not self.sources or not all(weight > 0 for weight in self.sources.values()):
            raise HelipError(f"data.caption={rule.sources}: give a name, or several with probabilities above 0")
        self._left_out = frozenset(text.lower() for text in rule.left_out)

    def read(self, row: int) -> RawSample:
        """Raises Unreadable when the sample has no image bytes or no caption, HelipError when its shard changed."""
        image = self.member(row, IMAGE)
        if not image:
            raise Unreadable("it has no image")
        captions, weights = self._weighted(row)
        return RawSample(row, image, captions, weights)

    def fetch_ahead(self, row: int) -> None:
        """Have what `read` will want fetched in the background, where the row's storage can do that."""
        texts = {TEXT if source == "txt" else JSON for source in self.sources}
        self.prefetch(row, (IMAGE, *texts))

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
            found: list[Any] = [self.member(row, TEXT)]
        else:
            value = self.metadata(row).get(source)
            found = value if isinstance(value, list) else [value]
        try:
            texts = [decoded(text) if isinstance(text, bytes) else text for text in found]
            captions = tuple(filter(None, (clean_caption(text) for text in texts if isinstance(text, str))))
            "".join(captions).encode("utf-8")  # JSON can hold halves of a character, which tokenizers refuse
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
