"""A target read together with its partners: the unit from which batches are made.

A row that turns out unreadable is replaced by the next good one in order (a target) or by the next draw (a partner),
and counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from helip.artifacts.shards import ShardIndex
from helip.data.crops import split_transform
from helip.data.order import TargetOrder
from helip.data.partners import Partners
from helip.data.reader import RawSample, SampleReader, Unreadable, content_digest
from helip.data.transforms import ImageTransform, decode_image, stream_seed
from helip.errors import HelipError

PIXELS, CAPTION = 21, 22  # separate streams of random numbers
IN_A_ROW = 1000  # assumption: so many unreadable rows one after the other are a broken dataset, not bad luck
FILLER, TARGET, PARTNER = -1, 0, 1


@dataclass(frozen=True)
class Example:
    """One pair, ready for the model."""

    row: int
    image: torch.Tensor  # (3, H, W) uint8, or float32 from a transform that cannot be split
    text: torch.Tensor  # (L,)
    identity: tuple[int, np.int64, np.int64]  # row, image digest, caption digest


@dataclass(frozen=True)
class Unit:
    """A target, its p slots, and how many rows had to be replaced."""

    target: Example
    mined: np.ndarray  # (k,) int64
    slots: list[tuple[int, Example]]  # p of (PARTNER | TARGET | FILLER, example)
    slot_mined: list[np.ndarray]  # p of (k,) int64: not empty for a slot that another target takes
    replaced: int


class UnitReader:
    """Reads the unit at an absolute position of the order.

    Args:
        reader: random access to the shards.
        order: of the targets.
        partners: None trains on the targets alone.
        transform: image to tensor; may draw from torch's or Python's global generator. What of it the device does is
            left to `normalize` (helip.data.crops).
        tokenize: list of captions to (n, L) int64.
        seed: of crops and captions.
        on_error: `skip` replaces an unreadable row, `fail` raises.
        keep_outliers: an empty slot takes another target instead of a filler.
        draft: sides of at least so many pixels are enough for the transform (decode_image); 0: every pixel.
        positions: of the whole training, for schedules that follow its progress; 0: unknown.
    """

    def __init__(
        self,
        reader: SampleReader,
        order: TargetOrder,
        partners: Partners | None,
        transform: ImageTransform,
        tokenize: Callable[[list[str]], torch.Tensor],
        seed: int,
        on_error: str = "skip",
        keep_outliers: bool = False,
        draft: int = 0,
        positions: int = 0,
    ) -> None:
        self.reader, self.order, self.partners = reader, order, partners
        self.transform, self.normalize = split_transform(transform)
        self.tokenize, self.seed = tokenize, seed
        self.on_error, self.keep_outliers, self.draft, self.positions = on_error, keep_outliers, draft, positions

    @property
    def index(self) -> ShardIndex:
        return self.reader.index

    def __call__(self, position: int) -> Unit:
        """Raises HelipError when a row is unreadable and on_error is `fail`, or when too many in a row are."""
        last = ""
        for ahead in range(IN_A_ROW):
            visit, row = self.order[position + ahead]
            target, last = self._try(row, visit)
            if target is not None:
                progress = min(1.0, position / self.positions) if self.positions else 0.0
                return self._with_partners(target, visit, ahead, progress)
        raise HelipError(
            f"{IN_A_ROW} rows in a row are unreadable, the last is {last}: check the shards and data.caption"
        )

    def _with_partners(self, target: Example, visit: int, replaced: int, progress: float) -> Unit:
        none = np.empty(0, np.int64)
        if self.partners is None:
            return Unit(target, none, [], [], replaced)
        slots, slot_mined, attempt = [], [], 0
        rows = self.partners.draw(target.row, visit, 0, progress)
        while rows and len(slots) < self.partners.p and attempt < IN_A_ROW:
            found = [example for example, _ in (self._try(row, visit) for row in rows) if example is not None]
            replaced += len(rows) - len(found)
            slots += [(PARTNER, example) for example in found][: self.partners.p - len(slots)]
            attempt += 1
            rows = self.partners.draw(target.row, visit, attempt, progress) if len(slots) < self.partners.p else []
        slot_mined += [none] * len(slots)
        attempt = 0
        while len(slots) < self.partners.p:
            example, problem = self._try(self.partners.filler(target.row, visit, attempt), visit)
            attempt += 1
            if example is not None:
                slots.append((TARGET if self.keep_outliers else FILLER, example))
                slot_mined.append(self.partners.mined(example.row) if self.keep_outliers else none)
            elif attempt == IN_A_ROW:
                raise HelipError(f"{IN_A_ROW} rows in a row are unreadable, the last is {problem}: check the shards")
        return Unit(target, self.partners.mined(target.row), slots, slot_mined, replaced)

    def _try(self, row: int, visit: int) -> tuple[Example | None, str]:
        try:
            return self._example(self.reader.read(row), visit), ""
        except Unreadable as error:
            problem = f"{self.index.where(row)}: {error}"
            if self.on_error == "fail":
                raise HelipError(f"{problem}; repair it, or set data.on_error=skip") from error
            return None, problem

    def _example(self, raw: RawSample, visit: int) -> Example:
        image = decode_image(raw.image, self.draft)
        caption = choose_caption(raw, stream_seed(self.seed, CAPTION, visit, raw.row))
        pixels = self.transform(image, stream_seed(self.seed, PIXELS, visit, raw.row))
        identity = (raw.row, content_digest(raw.image), content_digest(caption))
        return Example(raw.row, pixels, self.tokenize([caption])[0], identity)


def choose_caption(raw: RawSample, seed: int) -> str:
    """One of a row's captions, by their probabilities."""
    if raw.weights is None:
        return raw.captions[seed % len(raw.captions)]
    place = np.searchsorted(np.cumsum(raw.weights), (seed >> 10) / (1 << 53), side="right")
    return raw.captions[min(int(place), len(raw.captions) - 1)]
