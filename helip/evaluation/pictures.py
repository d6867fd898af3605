"""Sets of pictures on disk: a folder for each class, and the directories of clip-benchmark, read as they are.

Legend: n pictures, C classes.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from helip.artifacts.shard_scan import NAME
from helip.artifacts.tar import TarError, scan_tar
from helip.data.reader import Unreadable
from helip.data.transforms import decode_image
from helip.errors import HelipError
from helip.evaluation.embed import Absent
from helip.evaluation.zeroshot import Template, readable, template

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp"}
IMAGE_EXTENSIONS = ("webp", "png", "jpg", "jpeg")  # those of clip-benchmark, in its order of preference
HUB = "https://huggingface.co/datasets/clip-benchmark"
Transform = Callable[[Image.Image], torch.Tensor]


class PictureSet(Dataset):
    """Pictures with labels or captions.

    Attributes:
        key: equal for equal pictures, so that they are embedded once.
        names: of the C classes; None where the pictures have captions instead.
        labels: (n,) int64, class of each picture.
        templates: prompts that come with the set.
        captions: (n,) tuples of captions; None where the pictures have classes.
    """

    key: tuple[str, ...]
    names: list[str] | None = None
    labels: NDArray[np.int64]
    templates: tuple[Template, ...] | None = None
    captions: list[tuple[str, ...]] | None = None
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


class FolderSet(PictureSet):
    """The pictures of a directory with one folder for each class, in sorted order (torchvision's ImageFolder).

    Args:
        folder: files beside the folders and hidden ones are ignored.
        transform: picture -> (3, H, W) tensor.
        names: of the classes in the order of their folders; None: the folders' names as a person would say them.
    """

    def __init__(self, folder: Path, transform: Transform, names: Sequence[str] | None = None) -> None:
        """Raises HelipError when there is no picture, or when the names are not as many as the folders."""
        folders = subfolders(folder)
        self.key, self.transform = (str(folder),), transform
        listed = [(number, path) for number, one in enumerate(folders) for path in pictures_in(one)]
        if not listed:
            raise HelipError(f"No picture in the class folders of {folder}: give a folder with one folder per class.")
        if names is not None and len(names) != len(folders):
            raise HelipError(f"{len(names)} class names for the {len(folders)} folders of {folder}: give one for each.")
        self.names = list(names) if names is not None else [readable(one.name) for one in folders]
        self.labels = np.array([number for number, _ in listed], np.int64)
        self.paths = [path for _, path in listed]

    def __len__(self) -> int:
        return len(self.paths)

    def source(self, position: int) -> tuple[bytes, str]:
        return self.paths[position].read_bytes(), str(self.paths[position])


class WdsSet(PictureSet):
    """One split of a clip-benchmark directory, read by offset without conversion.

    Its rules: SPLIT/0.tar to SPLIT/(nshards - 1).tar with SPLIT/nshards.txt; KEY.webp, .png or .jpg beside KEY.cls (a
    class number) or, if dataset_type.txt says `retrieval`, beside KEY.txt (one caption a line); classnames.txt and
    zeroshot_classification_templates.txt (`{c}` is the class) hold one entry a line.
    """

    def __init__(self, folder: Path, split: str, transform: Transform, names: Sequence[str] | None = None) -> None:
        """Scan the shards' headers and read labels or captions.

        Args:
            folder: of the set.
            split: a folder in it.
            transform: picture -> (3, H, W) tensor.
            names: of the classes by their numbers; None: the lines of classnames.txt.

        Raises:
            Absent: a shard is not there.
            HelipError: a damaged shard, a sample without a picture or label, a kind of set that cannot be evaluated, or
                names that are not as many as the classes.
        """
        self.key, self.transform, self.folder = (str(folder), split), transform, folder
        kind = (_lines(folder / "dataset_type.txt") or ["classification"])[0].lower()
        if kind not in ("classification", "retrieval"):
            raise HelipError(f"{folder} is a {kind} set: only classification and retrieval sets can be evaluated.")
        self.shards = _shards(folder, split)
        second = "cls" if kind == "classification" else "txt"
        self.members: list[tuple[int, int, int]] = []  # (shard, offset, size) of each picture
        contents: list[bytes] = []
        for number, shard in enumerate(self.shards):
            for picture, content in _samples(shard, second):
                self.members.append((number, *picture))
                contents.append(content)
        if not self.members:
            raise HelipError(f"{folder / split} holds no sample: fetch it again.")
        if kind == "retrieval":
            self.captions = [tuple(content.decode("utf-8-sig").splitlines()) for content in contents]
            return
        self.labels = np.array([int(content) for content in contents], np.int64)
        self.names = _lines(folder / "classnames.txt")
        if names is not None:
            classes = len(self.names or []) or int(self.labels.max()) + 1
            if len(names) != classes:
                raise HelipError(f"{len(names)} class names for the {classes} classes of {folder}: give one for each.")
            self.names = list(names)
        lines = _lines(folder / "zeroshot_classification_templates.txt") or []
        self.templates = tuple(template(line) for line in lines if line) or None

    def __len__(self) -> int:
        return len(self.members)

    def source(self, position: int) -> tuple[bytes, str]:
        shard, offset, size = self.members[position]
        with open(self.shards[shard], "rb") as file:
            file.seek(offset)
            return file.read(size), f"picture {position} of {self.shards[shard]}"


def is_wds(folder: Path) -> bool:
    """Whether a directory is laid out as clip-benchmark's."""
    return any(folder.glob("*/nshards.txt")) or any(folder.glob("*/0.tar"))


def require(folder: Path) -> None:
    """Raises Absent, with the command that fetches a set of clip-benchmark, when there is nothing at `folder`."""
    if not folder.is_dir():
        get = f"hf download clip-benchmark/{folder.name} --repo-type dataset --local-dir {folder}"
        how = get if folder.name.startswith("wds_") else "put its folders there, or give another path"
        raise Absent(f"there is nothing at {folder}: {how}")


def subfolders(folder: Path) -> list[Path]:
    """The visible folders of a directory in sorted order."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def pictures_in(folder: Path) -> list[Path]:
    """The files of a folder that have the suffix of a picture, in sorted order."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _lines(path: Path) -> list[str] | None:
    """The stripped lines of a file that is there."""
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()] if path.is_file() else None


def _shards(folder: Path, split: str) -> list[Path]:
    """The tars of a split in order: as many as nshards.txt says, else all that are there."""
    lines = _lines(folder / split / "nshards.txt")
    if lines and lines[0].isdigit():
        shards = [folder / split / f"{number}.tar" for number in range(int(lines[0]))]
    else:
        found = [path for path in (folder / split).glob("*.tar") if re.fullmatch(r"\d+", path.stem)]
        shards = sorted(found, key=lambda path: int(path.stem))
    missing = [path for path in shards if not path.is_file()]
    if missing or not shards:
        what = f"{len(missing)} of its {len(shards)} shards ({missing[0].name})" if missing else "all of its shards"
        raise Absent(f"the {split} split in {folder} lacks {what}: fetch them from {HUB}/{folder.name} if it has them")
    return shards


def _samples(shard: Path, second: str) -> list[tuple[tuple[int, int], bytes]]:
    """(offset, size) of each picture, and the content of the member beside it with the extension `second`."""
    keys: list[str] = []
    found: list[dict[str, tuple[int, int]]] = []
    try:
        for member in scan_tar(shard):
            match = NAME.match(member.name)
            if match is None:
                continue
            if not keys or match[1] != keys[-1]:
                keys.append(match[1])
                found.append({})
            found[-1][match[2].lower()] = (member.offset, member.size)
    except TarError as error:
        raise HelipError(f"{shard} is damaged after {len(keys)} samples: {error}; fetch it again.") from error
    samples = []
    with open(shard, "rb") as file:
        for key, members in zip(keys, found, strict=True):
            picture = next((members[ext] for ext in IMAGE_EXTENSIONS if ext in members), None)
            if picture is None or second not in members:
                raise HelipError(f"{key} in {shard} has no picture or no .{second}: fetch the shard again.")
            offset, size = members[second]
            file.seek(offset)
            samples.append((picture, file.read(size)))
    return samples
