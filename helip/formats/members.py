"""Which of the files that share a name are the image, the caption and the metadata of one sample."""

from collections.abc import Mapping
from typing import TypeVar

# the first that is there is taken: a photo is a .jpg and its mask a .png
IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
CAPTIONS = ("txt", "text", "caption")
METADATA = ("json",)
Found = TypeVar("Found")


def chosen(files: Mapping[str, Found]) -> tuple[Found | None, Found | None, Found | None]:
    """Image, caption and metadata among the files of one sample.

    Args:
        files: by extension without its dot, in small letters.
    """
    image, caption, metadata = (
        next((files[name] for name in names if name in files), None) for names in (IMAGES, CAPTIONS, METADATA)
    )
    return image, caption, metadata


def passed_over(files: Mapping[str, Found]) -> int:
    """Images and captions that stand beside the chosen ones."""
    return sum(max(0, sum(name in files for name in names) - 1) for names in (IMAGES, CAPTIONS))
