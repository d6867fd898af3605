"""ImageNet zero-shot: wnid folders with open_clip's class names and templates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helip.evaluation.directories import classify
from helip.evaluation.embed import Embed, Evaluator, Found
from helip.evaluation.wnid_folders import ImageNetFolder, is_validation_set


def evaluator(line: Mapping[str, Any]) -> type[Evaluator]:
    """The class for a line of the configuration."""
    return ImageNet


@dataclass(frozen=True)
class ImageNet(Evaluator):
    """Zero-shot classification of the pictures in wnid folders.

    Attributes:
        folder: the directory of the wnid folders.
    """

    folder: str

    @property
    def benchmark(self) -> str | None:
        return "imagenet1k" if is_validation_set(Path(self.folder)) else None

    def run(self, embed: Embed) -> Found:
        pictures = ImageNetFolder(self.folder, embed.transform)
        return classify(pictures, embed, pictures.names)
