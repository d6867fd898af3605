"""ImageNet zero-shot from folders named by WordNet ids, with open_clip's class names and templates."""

from pathlib import Path

import numpy as np
from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from timm.data.imagenet_info import ImageNetInfo

from helip.errors import HelipError
from helip.evaluation.folders import ClassFolders, list_pictures, subfolders
from helip.evaluation.pictures import Transform

TEMPLATES = OPENAI_IMAGENET_TEMPLATES
PER_CLASS = 50  # pictures of each class in ImageNet-1k's validation set (arXiv 1409.0575, table 2)


def wnids() -> list[str]:
    """The 1,000 WordNet ids in the order of open_clip.IMAGENET_CLASSNAMES."""
    return list(ImageNetInfo("imagenet-1k").label_names())


class ImageNetFolder(ClassFolders):
    """The pictures of the wnid folders of one directory, in sorted order, which is ImageNet's order of classes.

    A subset of the classes is classified among those classes only, as is usual for ImageNet-R, -A and -100.

    Args:
        folder: holds a folder for each class; files beside them and hidden folders are ignored, and reported.
        transform: picture -> (3, H, W) tensor.

    Attributes:
        names: open_clip's names of the C classes that are there.

    Raises:
        HelipError: no such directory, no picture in it, or a folder that is no class of ImageNet-1k.
    """

    templates = tuple(TEMPLATES)
    names: list[str]

    def __init__(self, folder: Path | str, transform: Transform) -> None:
        folders, names = class_folders(folder), dict(zip(wnids(), IMAGENET_CLASSNAMES, strict=True))
        super().__init__(Path(folder), transform, folders, [names[one.name] for one in folders])


def is_validation_set(folder: Path) -> bool:
    """Whether a folder holds the validation set of ImageNet-1k, by its numbers of classes and pictures.

    ImageNet-R and -A have fewer classes, and ImageNet-Sketch has other numbers of pictures.
    """
    if not folder.is_dir() or len(found := subfolders(folder)) != len(wnids()):
        return False
    counts = np.bincount([number for number, _ in list_pictures(folder, found)[0]], minlength=len(found))
    return bool((counts == PER_CLASS).all())


def class_folders(folder: Path | str) -> list[Path]:
    """The wnid folders of a directory.

    Raises:
        HelipError: no such directory, no folder in it, or a folder that is no class of ImageNet-1k.
    """
    folder, known = Path(folder), set(wnids())
    if not folder.is_dir():
        raise HelipError(
            f"evaluation.imagenet={folder} is no directory: give the folder that holds n01440764/ and so on."
        )
    folders = subfolders(folder)
    strangers = [path.name for path in folders if path.name not in known]
    if not folders:
        raise HelipError(
            f"evaluation.imagenet={folder} holds no folders: give the one that holds n01440764/ and so on."
        )
    if strangers:
        hint = f"; did you mean {folder / 'val'}?" if "val" in strangers else ": rename or remove it."
        raise HelipError(
            f"{folder / strangers[0]} is not named by a WordNet id of ImageNet-1k "
            f"({len(strangers)} of {len(folders)} folders are not){hint}"
        )
    return folders
