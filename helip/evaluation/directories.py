"""Opens a set on disk: ImageNet's wnid folders, a folder per class, or a directory of clip-benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helip.evaluation.embed import Embed, Evaluator, Found
from helip.evaluation.folders import FolderSet, has_pictures, subfolders
from helip.evaluation.metrics import accuracy_samples
from helip.evaluation.pictures import PictureSet, Transform, no_split, require
from helip.evaluation.prompts import Template, prompts
from helip.evaluation.wds import WdsSet, is_wds
from helip.evaluation.wnid_folders import ImageNetFolder, wnids

PLAIN = ("a photo of a {}.",)  # templates of a set that has none (CLIP, section 3.1.4)
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}  # folders that are no classes
TEST = "test"  # the default split, and that of clip-benchmark's records


def open_set(path: str, split: str, transform: Transform, names: Sequence[str] | None = None) -> PictureSet:
    """The pictures at a path: a wds directory, wnid folders with ImageNet's names, or a folder for each class.

    Args:
        path: of the set; class folders lie in its subfolder `split`. Those of `test` may lie in `path` itself.
        split: of the set.
        transform: picture -> (3, H, W) tensor.
        names: of the classes, in the order of the class folders or by the numbers of a wds directory; None: the set's
            own names.

    Raises:
        Absent: there is no such set or default split.
        HelipError: the set cannot be read.
    """
    folder = Path(path)
    require(folder)
    if is_wds(folder):
        return WdsSet(folder, split, transform, names)
    if (folder / split).is_dir() and not has_pictures(folder / split):
        folder = folder / split
    elif split != TEST:  # class folders without splits are the test set
        there = ", ".join(one.name for one in subfolders(folder)[:5])
        lacking = f"{folder} has no folder {split} with class folders in it, but {there or 'none at all'}"
        raise no_split(split, f"{lacking}: make it, or name another split")
    found = subfolders(folder)
    if found and {one.name for one in found} <= SPLITS:  # with nested pictures they would count as classes
        there = ", ".join(one.name for one in found)
        raise no_split(split, f"{folder} has the splits {there}, and no {split}: name one, by `split:`")
    if names is None and found and {one.name for one in found} <= set(wnids()):
        return ImageNetFolder(folder, transform)
    return FolderSet(folder, transform, names)


def benchmark_name(path: str) -> str:
    """clip-benchmark's name of a set, such as `wds/vtab/cifar10` for wds_vtab-cifar10; else the directory's name."""
    name = Path(path).name
    return f"wds/{name.removeprefix('wds_').replace('vtab-', 'vtab/', 1)}" if name.startswith("wds_") else name


def classify(
    pictures: PictureSet, embed: Embed, names: Sequence[str], templates: Sequence[Template] | str | None = None
) -> Found:
    """Zero-shot accuracies of labelled pictures; `templates` as for `prompts`, None: those of the set."""
    weights = embed.classifier(names, prompts(templates, names, pictures.templates or PLAIN))
    found = accuracy_samples(embed.images(pictures), weights, pictures.labels)
    return {f"zeroshot_{key}": sampled for key, sampled in found.items()}


@dataclass(frozen=True)
class OnDirectory(Evaluator):
    """An evaluator that measures on a split of a directory.

    Attributes:
        path: the directory.
        split: the split of it.
    """

    path: str
    split: str = TEST

    @property
    def measured_on(self) -> str:
        return self.split

    @property
    def benchmark(self) -> str | None:
        return benchmark_name(self.path) if self.split == TEST else None
