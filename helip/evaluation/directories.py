"""Evaluators on directories: ImageNet's wnid folders, a folder per class, and clip-benchmark's wds directories."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helip.errors import HelipError
from helip.evaluation.embed import Absent, Embed, Evaluator, Found
from helip.evaluation.imagenet import ImageNetFolder, is_validation_set, wnids
from helip.evaluation.metrics import accuracy_samples, retrieval_samples
from helip.evaluation.pictures import FolderSet, PictureSet, Transform, WdsSet, is_wds, pictures_in, require, subfolders
from helip.evaluation.zeroshot import Template, prompts

PLAIN = ("a photo of a {}.",)  # where a set brings none (CLIP, section 3.1.4)
TEST = "test"  # the split that is meant where none is named, and that clip-benchmark's records speak of


def open_set(path: str, split: str, transform: Transform, names: Sequence[str] | None = None) -> PictureSet:
    """The pictures at a path: a wds directory, wnid folders with ImageNet's names, or a folder for each class.

    Args:
        path: of the set; class folders lie in its subfolder `split`. Those of `test` may lie in `path` itself.
        split: of the set.
        transform: picture -> (3, H, W) tensor.
        names: of the classes, in the order of the class folders or by the numbers of a wds directory; None: those of
            the set.

    Raises:
        Absent: nothing there.
        HelipError: no set that can be read.
    """
    folder = Path(path)
    require(folder)
    if is_wds(folder):
        return WdsSet(folder, split, transform, names)
    if (folder / split).is_dir() and not pictures_in(folder / split):
        folder = folder / split
    elif split != TEST:  # the class folders of no split in particular are one set, whatever it is called
        raise Absent(f"{folder} has no folder {split} with class folders in it: make it, or name another split")
    found = subfolders(folder)
    if names is None and found and {one.name for one in found} <= set(wnids()):
        return ImageNetFolder(folder, transform)
    return FolderSet(folder, transform, names)


def benchmark_name(path: str) -> str:
    """clip-benchmark's name of a set: wds_vtab-cifar10 is `wds/vtab/cifar10`; else the directory's own."""
    name = Path(path).name
    return f"wds/{name.removeprefix('wds_').replace('vtab-', 'vtab/', 1)}" if name.startswith("wds_") else name


def classify(
    pictures: PictureSet, embed: Embed, names: Sequence[str], templates: Sequence[Template] | str | None = None
) -> Found:
    """Zero-shot accuracies of labelled pictures; templates as `prompts`, None: those of the set."""
    image, positions = embed.images(pictures)
    weights = embed.classifier(names, prompts(templates, names, pictures.templates or PLAIN))
    found = accuracy_samples(image, weights, pictures.labels[positions])
    return {f"zeroshot_{key}": sampled for key, sampled in found.items()}


@dataclass(frozen=True)
class OnDirectory(Evaluator):
    """What is measured on a split of a directory.

    Attributes:
        path: the directory.
        split: of it, to measure on.
    """

    path: str
    split: str = TEST

    @property
    def measured_on(self) -> str:
        return self.split

    @property
    def benchmark(self) -> str | None:
        return benchmark_name(self.path) if self.split == TEST else None


@dataclass(frozen=True)
class DirectoryZeroShot(OnDirectory):
    """Zero-shot classification of the pictures of a directory: clip-benchmark's, or with a folder for each class.

    Attributes:
        names: of the classes in the order of their folders or numbers; None: those of the set.
        templates: prompts with `{}` or `{c}` for the class, or `openai` (80) or `simple` (7), open_clip's for
            ImageNet; None: those of the set.
    """

    names: tuple[str, ...] | None = None
    templates: tuple[Template, ...] | str | None = None

    def run(self, embed: Embed) -> Found:
        pictures = open_set(self.path, self.split, embed.transform, self.names)
        if pictures.names is None:
            raise Absent(f"{self.path} has no class names: write classnames.txt, a line for each class, or give names")
        return classify(pictures, embed, pictures.names, self.templates)


@dataclass(frozen=True)
class DirectoryRetrieval(OnDirectory):
    """Image-text retrieval in a wds directory of clip-benchmark, several captions per image."""

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
    def benchmark(self) -> str | None:
        return "imagenet1k" if is_validation_set(Path(self.folder)) else None

    def run(self, embed: Embed) -> Found:
        pictures = ImageNetFolder(self.folder, embed.transform)
        return classify(pictures, embed, pictures.names)
