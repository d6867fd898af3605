"""What evaluators and models ask of each other.

Legend: n rows of a part or pictures of a set, m captions, d embedding width, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from helip.errors import HelipError
from helip.evaluation.samples import Sampled
from helip.evaluation.zeroshot import Template

Found = dict[str, Sampled]


class Absent(HelipError):
    """A part or a set that is not here; the sentence says how to get it. `measure_all` skips it."""


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

    def captions(self, rows: NDArray, field: str) -> list[tuple[str, ...]]:
        """The captions in a field of each row's json; the row's own caption where the field is missing or empty."""
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
        """The part or split that the metrics speak of; a checkpoint is never chosen by another than a val part."""
        return "test"

    @property
    def benchmark(self) -> str | None:
        """What clip-benchmark calls the data; None: they are a part of the dataset."""
        return None

    def run(self, embed: Embed) -> Found:
        """Metrics, named without `name`, with their samples."""
        raise NotImplementedError
