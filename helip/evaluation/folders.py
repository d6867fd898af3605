"""A folder for each class, counted as torchvision's ImageFolder counts: nested folders, its suffixes in any case.

There are two differences, each reported in a line. Hidden files (`.ipynb_checkpoints`, `._cat.jpg`) and those in
`__MACOSX` are ignored, where ImageFolder counts them. A class without a picture is left out, where ImageFolder refuses
the set.

Legend: n pictures, C classes.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from helip.errors import HelipError
from helip.evaluation.pictures import PictureFiles, Transform
from helip.evaluation.prompts import readable

MACOS = "__MACOSX"  # folder that macOS adds to its zip archives
NAMED = 3  # classes without a picture that a line names


class ClassFolders(PictureFiles):
    """The pictures of class folders; a class without a picture is left out."""

    def __init__(self, folder: Path, transform: Transform, folders: Sequence[Path], names: Sequence[str]) -> None:
        """List the pictures of the `folders` of the classes with these `names`. Raises HelipError if there are none."""
        self.key, self.transform = (str(folder),), transform
        listed, self.notes = list_pictures(folder, folders)
        if not listed:
            raise HelipError(
                f"No picture in the class folders of {folder}: give a folder with one folder per class, with files "
                f"{', '.join(IMG_EXTENSIONS)}."
            )
        present, labels = np.unique([number for number, _ in listed], return_inverse=True)
        self.names = [names[int(number)] for number in present]
        self.labels = labels.astype(np.int64)
        self.paths = [path for _, path in listed]


class FolderSet(ClassFolders):
    """The pictures of a directory with one folder for each class, in sorted order (torchvision's ImageFolder).

    Args:
        folder: files beside the folders are ignored, and counted.
        transform: picture -> (3, H, W) tensor.
        names: of the classes in the order of their folders; None: the `readable` names of the folders.

    Raises:
        HelipError: no picture, or not one name for each folder.
    """

    def __init__(self, folder: Path, transform: Transform, names: Sequence[str] | None = None) -> None:
        folders = subfolders(folder)
        if names is not None and len(names) != len(folders):
            raise HelipError(f"{len(names)} class names for the {len(folders)} folders of {folder}: give one for each.")
        said = list(names) if names is not None else [readable(one.name) for one in folders]
        super().__init__(folder, transform, folders, said)


def subfolders(folder: Path) -> list[Path]:
    """The class folders of a directory in sorted order, without hidden folders and that of macOS."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _passed_over(path.name))


def has_pictures(folder: Path) -> bool:
    """Whether the folder itself holds a picture."""
    return any(is_picture(path.name) for path in folder.iterdir() if path.is_file())


def is_picture(name: str) -> bool:
    """Whether a file name has a picture's suffix, in any case, and is not hidden."""
    return name.lower().endswith(IMG_EXTENSIONS) and not _passed_over(name)


def list_pictures(root: Path, folders: Sequence[Path]) -> tuple[list[tuple[int, Path]], list[str]]:
    """The pictures of class folders in ImageFolder's order.

    Args:
        root: the directory of the class folders.
        folders: in the order of the classes.

    Returns:
        (position of the folder, path) of each picture, and sentences about what was passed over.
    """
    passed: list[str] = []

    def counts(path: str) -> bool:
        parts = Path(path).relative_to(root).parts
        good = is_picture(parts[-1]) and not any(_passed_over(part) for part in parts)
        if not good:
            passed.append(path)
        return good

    numbers = {folder.name: number for number, folder in enumerate(folders)}
    found = make_dataset(root, numbers, is_valid_file=counts, allow_empty=True) if numbers else []
    beside = [path for path in sorted(root.iterdir()) if path.is_file() and is_picture(path.name)]
    aside = [path for path in sorted(root.iterdir()) if path.is_dir() and _passed_over(path.name)]
    notes = [f"{root}: passed over {suffixes(passed)}"] if passed else []
    notes += [f"{root}: passed over the folders {', '.join(path.name for path in aside)}"] if aside else []
    notes += [f"{root}: passed over {suffixes(map(str, beside))} beside the class folders"] if beside else []
    lacking = sorted(numbers.keys() - {folders[number].name for _, number in found})
    if lacking and found:
        which = ", ".join(lacking[:NAMED]) + (", ..." if len(lacking) > NAMED else "")
        notes.append(f"{root}: {len(lacking)} of {len(folders)} classes have no picture and are left out ({which})")
    return [(number, Path(path)) for path, number in found], notes


def suffixes(paths: Iterable[str]) -> str:
    """The number of files by suffix, such as `3 files: 2 .gif, 1 hidden`."""
    counts = Counter(_kind(path) for path in paths)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
    return f"{sum(counts.values())} files: {listed}"


def _kind(path: str) -> str:
    if any(_passed_over(part) for part in Path(path).parts):
        return "hidden"
    return os.path.splitext(path)[1].lower() or "without a suffix"


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name == MACOS
