"""Sets of pictures on disk, with labels or captions: what folders and clip-benchmark's directories have in common.

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

USUAL = ("test", "train")  # splits that evaluators name by themselves
Transform = Callable[[Image.Image], torch.Tensor]


class PictureSet(Dataset):
    """Pictures with labels or captions.

    Attributes:
        key: equal for equal pictures, so that they are embedded once.
        names: of the C classes; None where the pictures have captions instead.
        labels: (n,) int64, class of each picture.
        templates: prompts that come with the set.
        captions: (n,) tuples of captions; None where the pictures have classes.
        notes: sentences about what of the set is not counted.
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
        """The file of a picture, and where it lies in words."""
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


def require(folder: Path) -> None:
    """Raises Absent, with the command that fetches a set of clip-benchmark, when there is nothing at `folder`."""
    if not folder.is_dir():
        get = f"hf download clip-benchmark/{folder.name} --repo-type dataset --local-dir {folder}"
        how = get if folder.name.startswith("wds_") else "put its folders there, or give another path"
        raise Absent(f"there is nothing at {folder}: {how}")


def no_split(split: str, sentence: str) -> HelipError:
    """A split that a set lacks: absent if evaluators name it by themselves, else named wrongly."""
    return Absent(sentence) if split in USUAL else HelipError(sentence)


def text_of(content: bytes, where: str) -> str:
    """Bytes as UTF-8, with or without a byte-order mark.

    Raises:
        HelipError: another encoding.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise HelipError(
            f"{where} is not UTF-8 in line {line}: convert it, as by `iconv -f latin1 -t utf-8`"
        ) from error


def lines_of(path: Path) -> list[str] | None:
    """The stripped lines of a file that is there. Raises HelipError where they are not UTF-8."""
    if not path.is_file():
        return None
    return [line.strip() for line in text_of(path.read_bytes(), str(path)).splitlines()]
