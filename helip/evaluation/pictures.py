"""Sets of pictures on disk with labels or captions: the common part of class folders and clip-benchmark's directories.

Legend: n pictures, C classes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from helip.data.reader import Unreadable
from helip.data.transforms import decode_image
from helip.errors import HelipError
from helip.evaluation.embed import Absent
from helip.evaluation.prompts import Template

USUAL = ("test", "train")  # the default splits of evaluators
Transform = Callable[[Image.Image], torch.Tensor]


class PictureSet(Dataset):
    """Pictures with labels or captions.

    Attributes:
        key: equal for sets of the same pictures, which are then embedded once.
        names: of the C classes; None where the pictures have captions instead.
        labels: (n,) int64, class of each picture.
        templates: prompts that come with the set; None if there are none.
        captions: (n,) tuples of captions; None where the pictures have classes.
        notes: sentences about files that are not counted.
    """

    key: tuple[str, ...]
    names: list[str] | None = None
    labels: NDArray[np.int64]
    templates: tuple[Template, ...] | None = None
    captions: list[tuple[str, ...]] | None = None
    notes: Sequence[str] = ()
    transform: Transform

    def __len__(self) -> int:
        raise NotImplementedError

    def source(self, position: int) -> tuple[bytes, str]:
        """The file of a picture, and a description of its place."""
        raise NotImplementedError

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        """(3, H, W) picture and its position in the set.

        Raises:
            HelipError: the picture cannot be decoded.
        """
        data, where = self.source(position)
        try:
            return self.transform(decode_image(data)), position
        except Unreadable as error:
            raise HelipError(f"{where} is unusable: {error}; replace or remove it.") from error


class PictureFiles(PictureSet):
    """Pictures that are files of their own.

    Attributes:
        paths: of the n pictures.
    """

    paths: list[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def source(self, position: int) -> tuple[bytes, str]:
        return self.paths[position].read_bytes(), str(self.paths[position])


def require(folder: Path) -> None:
    """Raises Absent if `folder` does not exist, with the command that fetches a set of clip-benchmark."""
    if not folder.is_dir():
        get = f"hf download clip-benchmark/{folder.name} --repo-type dataset --local-dir {folder}"
        how = get if folder.name.startswith("wds_") else "put its folders there, or give another path"
        raise Absent(f"there is nothing at {folder}: {how}")


def no_split(split: str, sentence: str) -> HelipError:
    """The error for a split that a set lacks: Absent for a default split, else HelipError for a wrong name."""
    return Absent(sentence) if split in USUAL else HelipError(sentence)


def text_of(content: bytes, where: str) -> str:
    """Bytes as UTF-8, with or without a byte-order mark. Raises HelipError for another encoding."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise HelipError(
            f"{where} is not UTF-8 in line {line}: convert it, as by `iconv -f latin1 -t utf-8`"
        ) from error


def lines_of(path: Path) -> list[str] | None:
    """The stripped lines of a file; None if there is no file. Raises HelipError where they are not UTF-8."""
    if not path.is_file():
        return None
    return [line.strip() for line in text_of(path.read_bytes(), str(path)).splitlines()]
