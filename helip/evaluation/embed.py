"""The interfaces between evaluators and models.

Legend: n rows of a part or pictures of a set, m captions, d embedding width, C classes.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from helip.errors import HelipError, nearest
from helip.evaluation.prompts import Template
from helip.evaluation.samples import Sampled

Found = dict[str, Sampled]


class Absent(HelipError):
    """A set that is not on this machine; the message says how to get it. `measure_all` skips the evaluator.

    A wrong name in the configuration (of a part, a field, a class, a file of an existing set) raises a plain
    HelipError, which lists the right ones.
    """


class Embed(Protocol):
    """A model as evaluators use it. Embeddings have length 1 and are the same on every rank."""

    @property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The model's evaluation transform."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model is, and a probe computes."""
        ...

    def part(self, part: str) -> tuple[NDArray, NDArray, NDArray]:
        """Image (n, d) and text (n, d) embeddings of the readable rows of a part, in row order, and the rows (n,).

        Raises:
            Absent: the dataset has no such part.
        """
        ...

    def images(self, dataset: Dataset) -> NDArray:
        """(n, d) embeddings of a map-style set of (picture, position), in its order."""
        ...

    def texts(self, captions: Sequence[str]) -> NDArray:
        """(m, d) embeddings of captions."""
        ...

    def classifier(self, names: Sequence[str], templates: Sequence[Template]) -> NDArray:
        """(d, C) class embeddings, as `class_embeddings`."""
        ...

    def fields(self, rows: NDArray, field: str) -> list[str]:
        """A field of each row's json as text; the empty string where it is missing or the row unreadable."""
        ...

    def captions(self, rows: NDArray, field: str | None) -> list[tuple[str, ...]]:
        """The captions in a field of each row's json, () where there are none; field None: the rows' own captions."""
        ...

    def names(self, rows: NDArray) -> list[str]:
        """Names of the json fields that any of the rows has, for the message about an unknown field."""
        ...


@dataclass(frozen=True)
class Evaluator:
    """Something to measure.

    Attributes:
        name: prefix of the metrics.
        every: optimizer steps between two evaluations during training; None: the number of train.evaluate.
    """

    name: str
    every: int | None = field(default=None, kw_only=True)

    @property
    def measured_on(self) -> str:
        """The part or split that is measured; only metrics of a val part may select a checkpoint."""
        return "test"

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the dataset that it reads; they are checked before anything runs."""
        return ()

    @property
    def benchmark(self) -> str | None:
        """clip-benchmark's name of the data; None if they have none there."""
        return None

    def run(self, embed: Embed) -> Found:
        """Metrics with their samples, by names without the prefix `name`."""
        raise NotImplementedError


@dataclass(frozen=True)
class OnPart(Evaluator):
    """An evaluator that measures on a part of the dataset.

    Attributes:
        part: name of the part.
    """

    part: str

    @property
    def measured_on(self) -> str:
        return self.part

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.part,)


def check_part(part: str, parts: Collection[str]) -> None:
    """Raises HelipError if a dataset has no such part; the message lists its parts."""
    if part not in parts:
        raise HelipError(
            f"the dataset has no part {part!r}, but {', '.join(parts)}{nearest(part, parts, 0.6)}: "
            f"name one of these, or its shards by +dataset.parts.{part}=FIRST:LAST"
        )
