"""Evaluators are data: what to measure on which part. An `Embed` gives them embeddings and knows models and ranks.

Every rank calls `evaluate_all`, or none: what an `Embed` returns is gathered, so all ranks compute the same numbers.

Legend: n rows of a part, d embedding width, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from helip.errors import HelipError
from helip.evaluation.imagenet import TEMPLATES, ImageNetFolder, class_folders
from helip.evaluation.metrics import accuracy, retrieval
from helip.evaluation.zeroshot import Template, classes_of, readable


class Absent(HelipError):
    """A part or a set that is not here; the sentence says how to get it. `evaluate_all` skips it."""


class Embed(Protocol):
    """What evaluators ask of a model. Embeddings have length 1 and are the same on every rank."""

    @property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The model's evaluation transform."""
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

    def classifier(self, names: Sequence[str], templates: Sequence[Template]) -> NDArray:
        """(d, C) class embeddings, as `class_embeddings`."""
        ...

    def fields(self, rows: NDArray, field: str) -> list[str]:
        """A field of each row's json; the empty string where it is missing."""
        ...


class Evaluator(Protocol):
    """What to measure; metrics are named without the evaluator's `name`."""

    @property
    def name(self) -> str: ...

    def run(self, embed: Embed) -> dict[str, float]: ...


@dataclass(frozen=True)
class Retrieval:
    """Image-text retrieval within a part.

    Attributes:
        name: prefix of the metrics.
        part: name of a part of the dataset.
        group: json field; rows that share its value (such as `caption`) are right answers to each other. None: every
            row stands for itself alone, and a repeated caption counts as wrong.
    """

    name: str
    part: str
    group: str | None = None

    def run(self, embed: Embed) -> dict[str, float]:
        image, text, rows = embed.part(self.part)
        group = None
        if self.group:
            names, group = classes_of(embed.fields(rows, self.group))
            alone = group < 0  # rows without the field stand for themselves
            group[alone] = len(names) + np.arange(alone.sum())
        return retrieval(image, text, group)


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot classification of a part's images by a field of their json.

    Attributes:
        name: prefix of the metrics.
        part: name of a part of the dataset.
        label: json field whose distinct values are the classes; rows without it are left out.
        templates: prompts with `{}` for the class.
    """

    name: str
    part: str
    label: str
    templates: tuple[Template, ...] = ("{}",)

    def run(self, embed: Embed) -> dict[str, float]:
        image, _, rows = embed.part(self.part)
        names, label = classes_of(embed.fields(rows, self.label))
        if len(names) < 2:
            raise Absent(
                f"part {self.part} has {len(names)} classes in the field {self.label!r}: name a json field of the "
                "shards with at least two values"
            )
        weights = embed.classifier([readable(name) for name in names], self.templates)
        known = label >= 0
        found = accuracy(image[known], weights, label[known])
        return {f"zeroshot_{self.label}_{key}": value for key, value in found.items()}


@dataclass(frozen=True)
class ImageNet:
    """Zero-shot classification of a folder of wnid folders.

    Attributes:
        name: prefix of the metrics.
        folder: the directory.
    """

    name: str
    folder: str

    def run(self, embed: Embed) -> dict[str, float]:
        pictures = ImageNetFolder(self.folder, embed.transform)
        image, positions = embed.images(pictures)
        weights = embed.classifier(pictures.names, TEMPLATES)
        return {f"zeroshot_{key}": v for key, v in accuracy(image, weights, pictures.labels[positions]).items()}


KINDS: dict[str, Callable[..., Evaluator]] = {"retrieval": Retrieval, "zeroshot": ZeroShot, "imagenet": ImageNet}


def build_evaluators(specs: Sequence[Mapping[str, Any]], imagenet: str | None = None) -> tuple[Evaluator, ...]:
    """Evaluators from a configuration's lines, such as `{kind: retrieval, part: test}`; `name` defaults to the part.

    Args:
        specs: `kind` and the fields of its class.
        imagenet: directory of wnid folders, or None.

    Raises:
        HelipError: an unknown kind, a field that is missing or unknown, or a wrong `imagenet` directory.
    """
    built: list[Evaluator] = []
    for spec in specs:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items() if k != "kind"}
        if spec.get("kind") not in KINDS:
            raise HelipError(f"Evaluator kind {spec.get('kind')!r} is unknown: use one of {', '.join(KINDS)}.")
        fields.setdefault("name", fields.get("part", spec["kind"]))
        try:
            built.append(KINDS[spec["kind"]](**fields))
        except TypeError as error:
            raise HelipError(f"Evaluator {dict(spec)} does not fit ({error}): correct its fields.") from error
    if imagenet is not None:
        class_folders(imagenet)  # a mistyped path is an error now, not after an hour of training
        built.append(ImageNet("imagenet", imagenet))
    return tuple(built)


class _Remembered:
    """Embeds each part once, however many evaluators look at it."""

    def __init__(self, embed: Embed) -> None:
        self.transform, self.images = embed.transform, embed.images
        self.classifier, self.fields = embed.classifier, embed.fields
        self.embed, self.parts = embed, {}

    def part(self, part: str) -> tuple[NDArray, NDArray, NDArray]:
        if part not in self.parts:
            self.parts[part] = self.embed.part(part)
        return self.parts[part]


def evaluate_all(evaluators: Sequence[Evaluator], embed: Embed, say: Callable[[str], None] = print) -> dict[str, float]:
    """Run every evaluator; metrics under flat names such as `test/t2i_recall@1` or `test/zeroshot_subgroup_top1`.

    Args:
        evaluators: what to measure.
        embed: the model; each part is embedded once.
        say: takes one line for each evaluator that is skipped because its data are not here.
    """
    remembered = _Remembered(embed)
    metrics: dict[str, float] = {}
    for evaluator in evaluators:
        try:
            found = evaluator.run(remembered)
        except Absent as reason:
            say(f"skipped {type(evaluator).__name__} {evaluator.name}: {reason}")
            continue
        metrics |= {f"{evaluator.name}/{key}": value for key, value in found.items()}
    return metrics
