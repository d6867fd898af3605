"""A target with its partners: the unit of a batch.

For an unreadable row, the reader asks the plan again with the next attempt, and counts the row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from helip.artifacts.shards import ShardIndex
from helip.data.byte_transforms import split_transform
from helip.data.plans.contract import TARGET, BatchPlan, Visit, units_per_step
from helip.data.reader import RawSample, SampleReader, Unreadable, content_digest
from helip.data.transforms import ImageTransform, decode_image, stream_seed
from helip.errors import HelipError

PIXELS, CAPTION = 21, 22  # separate streams of random numbers
IN_A_ROW = 1000  # assumption: this many consecutive unreadable rows mean a broken dataset


@dataclass(frozen=True)
class Example:
    """One pair, ready for the model."""

    row: int
    image: torch.Tensor  # (3, H, W) uint8, or float32 from a transform that cannot be split
    text: torch.Tensor  # (L,)
    identity: tuple[int, np.int64, np.int64]  # row, image digest, caption digest
    mined: np.ndarray  # (k,) int64 of a target, otherwise empty


@dataclass(frozen=True)
class Unit:
    """A target, its p slots, and the number of replaced rows."""

    target: Example
    slots: list[tuple[int, Example]]  # p of (PARTNER | TARGET | FILLER, example)
    replaced: int


class UnitReader:
    """Reads a unit by its number: unit n is unit n mod T of step n div T.

    Args:
        reader: random access to the shards.
        plan: the rows of each unit.
        transform: image to tensor; may draw from torch's or Python's global generator. The device's half becomes
            `normalize` (helip.data.byte_transforms).
        tokenize: list of captions to (n, L) int64.
        seed: of crops and captions.
        on_error: `skip` replaces an unreadable row, `fail` raises.
        draft: as in decode_image.
        steps: length of the training, for plans that depend on its progress; 0: unknown.
    """

    def __init__(
        self,
        reader: SampleReader,
        plan: BatchPlan,
        transform: ImageTransform,
        tokenize: Callable[[list[str]], torch.Tensor],
        seed: int,
        on_error: str = "skip",
        draft: int = 0,
        steps: int = 0,
    ) -> None:
        self.reader, self.plan = reader, plan
        self.transform, self.normalize = split_transform(transform)
        self.tokenize, self.seed = tokenize, seed
        self.on_error, self.draft, self.steps = on_error, draft, steps
        self.units = units_per_step(plan)

    @property
    def index(self) -> ShardIndex:
        return self.reader.index

    def __call__(self, number: int) -> Unit:
        """Raises HelipError if a row is unreadable and on_error is `fail`, or if IN_A_ROW rows are unreadable."""
        (step, index), last = divmod(number, self.units), ""
        for attempt in range(IN_A_ROW):
            visit = self.plan.target(step, index, attempt)
            target, last = self._try(visit.row, visit.number, TARGET)
            if target is not None:
                return self._with_slots(target, visit, attempt, self._progress(number))
        raise _all_unreadable(last)

    def fetch_ahead(self, number: int) -> None:
        """Fetch in the background the bytes of a unit, of the rows that it has if all can be read."""
        visit = self.plan.target(*divmod(number, self.units))
        for row in (visit.row, *(row for _, row in self.plan.beside(visit, 0, self._progress(number)))):
            self.reader.fetch_ahead(row)

    def _progress(self, number: int) -> float:
        return min(1.0, number / (self.steps * self.units)) if self.steps else 0.0

    def _with_slots(self, target: Example, visit: Visit, replaced: int, progress: float) -> Unit:
        slots: list[tuple[int, Example]] = []
        attempt, last = 0, ""
        while len(slots) < self.plan.unit - 1:
            if attempt == IN_A_ROW:
                raise _all_unreadable(last)
            for role, row in self.plan.beside(visit, attempt, progress):
                example, problem = self._try(row, visit.number, role)
                if example is None:
                    replaced, last = replaced + 1, problem
                elif len(slots) < self.plan.unit - 1:
                    slots.append((role, example))
            attempt += 1
        return Unit(target, slots, replaced)

    def _try(self, row: int, visit: int, role: int) -> tuple[Example | None, str]:
        """The example of a row, or why it is unreadable."""
        try:
            return self._example(self.reader.read(row), visit, role), ""
        except Unreadable as error:
            problem = f"{self.index.where(row)}: {error}"
            if self.on_error == "fail":
                raise HelipError(f"{problem}; repair it, or set data.on_error=skip") from error
            return None, problem

    def _example(self, raw: RawSample, visit: int, role: int) -> Example:
        image = decode_image(raw.image, self.draft)
        caption = choose_caption(raw, stream_seed(self.seed, CAPTION, visit, raw.row))
        pixels = self.transform(image, stream_seed(self.seed, PIXELS, visit, raw.row))
        identity = (raw.row, content_digest(raw.image), content_digest(caption))
        mined = self.plan.mined(raw.row) if role == TARGET else np.empty(0, np.int64)
        return Example(raw.row, pixels, self.tokenize([caption])[0], identity, mined)


def _all_unreadable(last: str) -> HelipError:
    return HelipError(
        f"{IN_A_ROW} consecutive rows are unreadable, the last is {last}: check the shards and data.caption"
    )


def choose_caption(raw: RawSample, seed: int) -> str:
    """Draw one of a row's captions by their probabilities."""
    if raw.weights is None:
        return raw.captions[seed % len(raw.captions)]
    place = np.searchsorted(np.cumsum(raw.weights), (seed >> 10) / (1 << 53), side="right")
    return raw.captions[min(int(place), len(raw.captions) - 1)]
