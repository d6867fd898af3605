"""Evaluators on a part of the dataset, by the fields of its json."""

from dataclasses import dataclass

import numpy as np

from helip.evaluation.embed import Absent, Embed, Evaluator, Found
from helip.evaluation.metrics import accuracy_samples, retrieval_samples
from helip.evaluation.zeroshot import Template, classes_of, prompts, readable


@dataclass(frozen=True)
class Retrieval(Evaluator):
    """Image-text retrieval within a part.

    Attributes:
        part: name of a part of the dataset.
        group: json field; rows that share its value (such as `caption`) are right answers to each other. None: every
            row stands for itself alone, and a repeated caption counts as wrong.
        captions: json field with a list of captions, all of which are right answers to their image; None: one caption
            a row, the one that training sees first.
    """

    part: str
    group: str | None = None
    captions: str | None = None

    @property
    def measured_on(self) -> str:
        return self.part

    def run(self, embed: Embed) -> Found:
        image, text, rows = embed.part(self.part)
        group = np.arange(len(rows))
        if self.group:
            names, group = classes_of(embed.fields(rows, self.group))
            if not names:
                raise Absent(
                    f"no row of part {self.part} has the field {self.group!r}: name a json field of the shards"
                )
            alone = group < 0  # rows without the field stand for themselves
            group[alone] = len(names) + np.arange(alone.sum())
        if self.captions is None:
            return retrieval_samples(image, text, group)
        captions = embed.captions(rows, self.captions)
        text = embed.texts([caption for several in captions for caption in several])  # (m, d)
        return retrieval_samples(image, text, group, np.repeat(group, [len(several) for several in captions]))


@dataclass(frozen=True)
class ZeroShot(Evaluator):
    """Zero-shot classification of a part's images by a field of their json.

    Attributes:
        part: name of a part of the dataset.
        label: json field whose distinct values are the classes; rows without it are left out.
        templates: prompts with `{}` or `{c}` for the class, or `openai` (80) or `simple` (7), open_clip's for ImageNet.
    """

    part: str
    label: str
    templates: tuple[Template, ...] | str = ("{}",)

    @property
    def measured_on(self) -> str:
        return self.part

    def run(self, embed: Embed) -> Found:
        image, _, rows = embed.part(self.part)
        names, label = classes_of(embed.fields(rows, self.label))
        if len(names) < 2:
            raise Absent(
                f"part {self.part} has {len(names)} classes in the field {self.label!r}: name a json field of the "
                "shards with at least two values"
            )
        said = [readable(name) for name in names]
        weights = embed.classifier(said, prompts(self.templates, said))
        known = label >= 0
        found = accuracy_samples(image[known], weights, label[known])
        return {f"zeroshot_{self.label}_{key}": sampled for key, sampled in found.items()}
