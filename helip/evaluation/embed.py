"""What evaluators and models ask of each other.

Legend: n rows of a part or pictures of a set, m captions, d embedding width, C classes.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from helip.errors import HelipError
from helip.evaluation.prompts import Template
from helip.evaluation.samples import Sampled

Found = dict[str, Sampled]


class Absent(HelipError):
    """A set that is not on this machine; the sentence says how to get it. `measure_all` skips it.

    A wrong name in the configuration (of a part, a field, a class, a file of a set that is here) raises a plain
    HelipError, which lists the right ones.
    """


class Embed(Protocol):
    """What evaluators ask of a model. Embeddings have length 1 and are the same on every rank."""

    @property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The model's evaluation transform."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model is, and where a probe may compute."""
        ...

    def part(self, part: str) -> tuple[NDArray, NDArray, NDArray]:
        """Image (n, d) and text (n, d) embeddings of the readable rows of a part, in row order, and the rows (n,).

        Raises:
            Absent: the dataset has no such part.
        """
        ...

    def images(self, dataset: Dataset) -> tuple[NDArray, NDArray]:
        """(n, d) embeddings of a map-style set of (picture, position), and the positions (n,)."""
        ...

    def texts(self, captions: Sequence[str]) -> NDArray:
        """(m, d) embeddings of captions."""
        ...

    def classifier(self, names: Sequence[str], templates: Sequence[Template]) -> NDArray:
        """(d, C) class embeddings, as `class_embeddings`."""
        ...

    def fields(self, rows: NDArray, field: str) -> list[str]:
        """A field of each row's json as text; the empty string where it is missing."""
        ...

    def captions(self, rows: NDArray, field: str | None) -> list[tuple[str, ...]]:
        """The captions in a field of each row's json, () where it is missing or empty; None: the rows' own captions."""
        ...

    def names(self, rows: NDArray) -> list[str]:
        """The json fields that any of the rows has, for the message about an unknown field."""
        ...


@dataclass(frozen=True)
class Evaluator:
    """What to measure.

    Attributes:
        name: prefix of the metrics.
        every: optimizer steps between two evaluations while training; None: as often as train.evaluate says.
    """

    name: str
    every: int | None = field(default=None, kw_only=True)

    @property
    def measured_on(self) -> str:
        """The part or split that is measured; only metrics of a val part may choose a checkpoint."""
        return "test"

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the dataset that it looks at; they are checked before anything runs."""
        return ()

    @property
    def benchmark(self) -> str | None:
        """What clip-benchmark calls the data; None: they are a part of the dataset."""
        return None

    def run(self, embed: Embed) -> Found:
        """Metrics, named without `name`, with their samples."""
        raise NotImplementedError


@dataclass(frozen=True)
class OnPart(Evaluator):
    """What is measured on a part of the dataset.

    Attributes:
        part: its name.
    """

    part: str

    @property
    def measured_on(self) -> str:
        return self.part

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.part,)


def check_part(part: str, parts: Collection[str]) -> None:
    """Raises HelipError, with the parts that a dataset has, where it has not this one."""
    if part not in parts:
        raise HelipError(
            f"the dataset has no part {part!r}, but {', '.join(parts)}{nearest(part, parts)}: name one of these, or "
            f"its shards by +dataset.parts.{part}=FIRST:LAST"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """`(did you mean ...?)` for the message about an unknown name; empty where no known name is near."""
    close = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
