"""Evaluators on directories: ImageNet's wnid folders, a folder per class, and clip-benchmark's wds directories."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip

from helip.errors import HelipError
from helip.evaluation.embed import Absent, Embed, Evaluator, Found
from helip.evaluation.imagenet import TEMPLATES, ImageNetFolder, wnids
from helip.evaluation.metrics import accuracy_samples, retrieval_samples
from helip.evaluation.pictures import FolderSet, PictureSet, Transform, WdsSet, is_wds, pictures_in, require, subfolders
from helip.evaluation.zeroshot import Template, template

# Sets of prompts by name, as open_clip has them.
NAMED_TEMPLATES = {"openai": tuple(TEMPLATES), "simple": tuple(open_clip.SIMPLE_IMAGENET_TEMPLATES)}
PLAIN = ("a photo of a {}.",)  # where a set brings none (CLIP, section 3.1.4)


def open_set(path: str, split: str, transform: Transform, names: Sequence[str] | None = None) -> PictureSet:
    """The pictures at a path: a wds directory, wnid folders with ImageNet's names, or a folder for each class.

    Args:
        path: of the set; class folders may lie in it or in its subfolder `split`.
        split: of the set.
        transform: picture -> (3, H, W) tensor.
        names: of the classes, in the order of the class folders; None: those of the set.

    Raises:
        Absent: nothing there.
        HelipError: no set that can be read.
    """
    folder = Path(path)
    require(folder)
    if is_wds(folder):
        return WdsSet(folder, split, transform)
    if (folder / split).is_dir() and not pictures_in(folder / split):
        folder = folder / split
    found = subfolders(folder)
    if names is None and found and {one.name for one in found} <= set(wnids()):
        return ImageNetFolder(folder, transform)
    return FolderSet(folder, transform, names)


def benchmark_name(path: str) -> str:
    """clip-benchmark's name of a set: wds_vtab-cifar10 is `wds/vtab/cifar10`; else the directory's own."""
    name = Path(path).name
    return f"wds/{name.removeprefix('wds_').replace('vtab-', 'vtab/', 1)}" if name.startswith("wds_") else name


@dataclass(frozen=True)
class DirectoryZeroShot(Evaluator):
    """Zero-shot classification of the pictures of a directory.

    Attributes:
        path: a wds directory of clip-benchmark, or a directory with a folder for each class.
        split: of the directory.
        names: of the classes in the order of their folders; None: those of the set.
        templates: prompts with `{}` or `{c}` for the class, or `openai` (80) or `simple` (7), open_clip's for
            ImageNet; None: those of the set.
    """

    path: str
    split: str = "test"
    names: tuple[str, ...] | None = None
    templates: tuple[Template, ...] | str | None = None

    @property
    def measured_on(self) -> str:
        return self.split

    @property
    def benchmark(self) -> str:
        return benchmark_name(self.path)

    def run(self, embed: Embed) -> Found:
        pictures = open_set(self.path, self.split, embed.transform, self.names)
        if pictures.names is None:
            raise Absent(f"{self.path} has no class names: write classnames.txt, a line for each class")
        image, positions = embed.images(pictures)
        weights = embed.classifier(pictures.names, self._prompts(pictures))
        found = accuracy_samples(image, weights, pictures.labels[positions])
        return {f"zeroshot_{key}": sampled for key, sampled in found.items()}

    def _prompts(self, pictures: PictureSet) -> tuple[Template, ...]:
        if self.templates is None:
            return pictures.templates or PLAIN
        if isinstance(self.templates, str):
            if self.templates not in NAMED_TEMPLATES:
                raise HelipError(f"templates={self.templates}: give a list of prompts, or openai or simple")
            return NAMED_TEMPLATES[self.templates]
        return tuple(template(one) if isinstance(one, str) else one for one in self.templates)


@dataclass(frozen=True)
class DirectoryRetrieval(Evaluator):
    """Image-text retrieval in a wds directory of clip-benchmark, several captions per image.

    Attributes:
        path: the directory.
        split: of it.
    """

    path: str
    split: str = "test"

    @property
    def measured_on(self) -> str:
        return self.split

    @property
    def benchmark(self) -> str:
        return benchmark_name(self.path)

    def run(self, embed: Embed) -> Found:
        pictures = open_set(self.path, self.split, embed.transform)
        if pictures.captions is None:
            raise HelipError(f"{self.path} has classes and no captions: use kind: zeroshot, or give a retrieval set")
        image, positions = embed.images(pictures)
        captions = [pictures.captions[position] for position in positions]
        text = embed.texts([caption for several in captions for caption in several])  # (m, d)
        images = np.arange(len(image))
        return retrieval_samples(image, text, images, np.repeat(images, [len(several) for several in captions]))


@dataclass(frozen=True)
class ImageNet(Evaluator):
    """Zero-shot classification of a folder of wnid folders.

    Attributes:
        folder: the directory.
    """

    folder: str

    @property
    def benchmark(self) -> str:
        return "imagenet1k"

    def run(self, embed: Embed) -> Found:
        pictures = ImageNetFolder(self.folder, embed.transform)
        image, positions = embed.images(pictures)
        weights = embed.classifier(pictures.names or [], TEMPLATES)
        found = accuracy_samples(image, weights, pictures.labels[positions])
        return {f"zeroshot_{key}": sampled for key, sampled in found.items()}
