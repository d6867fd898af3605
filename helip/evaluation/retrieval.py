"""Image-text retrieval in a part of the dataset, or in a directory of clip-benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helip.errors import HelipError
from helip.evaluation.directories import OnDirectory, open_set
from helip.evaluation.embed import Embed, Evaluator, Found, OnPart
from helip.evaluation.metrics import retrieval_samples
from helip.evaluation.prompts import classes_of


def evaluator(line: Mapping[str, Any]) -> type[Evaluator]:
    """The class for a line of the configuration: on a directory, or on a part of the dataset."""
    return DirectoryRetrieval if "path" in line else Retrieval


@dataclass(frozen=True)
class Retrieval(OnPart):
    """Image-text retrieval within a part.

    Attributes:
        group: json field; rows that share its value (such as `caption`) are right answers to each other. None: every
            row is a group of its own, and a repeated caption counts as wrong.
        captions: json field with a list of captions, all of which are right answers to their image. A row that lacks it
            keeps its own caption, and is reported. None: one caption a row, the one that training sees first.
    """

    group: str | None = None
    captions: str | None = None

    def run(self, embed: Embed) -> Found:
        image, text, rows = embed.part(self.part)
        group = np.arange(len(rows))
        if self.group:
            names, group = classes_of(embed.fields(rows, self.group))
            alone = group < 0  # a row without the field is a group of its own
            group[alone] = len(names) + np.arange(alone.sum())
        if self.captions is None:
            return retrieval_samples(image, text, group)
        captions = embed.captions(rows, self.captions)
        lacking = [place for place, several in enumerate(captions) if not several]
        for place, own in zip(lacking, embed.captions(rows[lacking], None) if lacking else [], strict=True):
            captions[place] = own[:1]
        return _with_captions(embed, image, group, captions)


@dataclass(frozen=True)
class DirectoryRetrieval(OnDirectory):
    """Image-text retrieval in a wds directory of clip-benchmark, with several captions per image."""

    def run(self, embed: Embed) -> Found:
        pictures = open_set(self.path, self.split, embed.transform)
        if pictures.captions is None:
            raise HelipError(f"{self.path} has classes and no captions: use kind: zeroshot, or give a retrieval set")
        return _with_captions(embed, embed.images(pictures), np.arange(len(pictures)), pictures.captions)


def _with_captions(embed: Embed, image: NDArray, group: NDArray, captions: Sequence[Sequence[str]]) -> Found:
    """Retrieval with several captions of each image (n, d), all of the group (n,) of the image."""
    text = embed.texts([caption for several in captions for caption in several])  # (m, d)
    return retrieval_samples(image, text, group, np.repeat(group, [len(several) for several in captions]))
