"""Zero-shot classification of a part's images by a field of their json, or of the pictures of a directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helip.evaluation.directories import OnDirectory, classify, open_set
from helip.evaluation.embed import Absent, Embed, Evaluator, Found, OnPart
from helip.evaluation.metrics import accuracy_samples
from helip.evaluation.prompts import Template, classes_of, prompts, readable


def evaluator(line: Mapping[str, Any]) -> type[Evaluator]:
    """The class for a line of the configuration: on a directory, or on a part of the dataset."""
    return DirectoryZeroShot if "path" in line else ZeroShot


@dataclass(frozen=True)
class ZeroShot(OnPart):
    """Zero-shot classification of a part's images by a field of their json.

    Attributes:
        label: json field whose distinct values are the classes; rows without it are left out, and reported.
        templates: prompts with `{}` or `{c}` for the class, or `openai` (80) or `simple` (7), open_clip's for ImageNet.
    """

    label: str
    templates: tuple[Template, ...] | str = ("{}",)

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


@dataclass(frozen=True)
class DirectoryZeroShot(OnDirectory):
    """Zero-shot classification of the pictures of a directory: clip-benchmark's, or with a folder for each class.

    Attributes:
        names: of the classes in the order of their folders or numbers; None: the set's own names.
        templates: prompts with `{}` or `{c}` for the class, or `openai` (80) or `simple` (7), open_clip's for
            ImageNet; None: the set's own templates.
    """

    names: tuple[str, ...] | None = None
    templates: tuple[Template, ...] | str | None = None

    def run(self, embed: Embed) -> Found:
        pictures = open_set(self.path, self.split, embed.transform, self.names)
        if pictures.names is None:
            raise Absent(f"{self.path} has no class names: write classnames.txt, a line for each class, or give names")
        return classify(pictures, embed, pictures.names, self.templates)
