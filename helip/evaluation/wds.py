"""The directories of clip-benchmark, read by offset without conversion."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from helip.artifacts.members import NAME
from helip.artifacts.tar import TarError, scan_tar
from helip.errors import HelipError
from helip.evaluation.embed import Absent
from helip.evaluation.pictures import PictureSet, Transform, lines_of, no_split, text_of
from helip.evaluation.prompts import template
from helip.storage.schemes import Storages

IMAGE_EXTENSIONS = ("webp", "png", "jpg", "jpeg")  # clip-benchmark's, in its order of preference
HUB = "https://huggingface.co/datasets/clip-benchmark"


class WdsSet(PictureSet):
    """One split of a clip-benchmark directory.

    Its format: SPLIT/0.tar to SPLIT/(nshards - 1).tar with SPLIT/nshards.txt; KEY.webp, .png or .jpg beside KEY.cls (a
    class number) or, if dataset_type.txt says `retrieval`, beside KEY.txt (one caption a line); classnames.txt and
    zeroshot_classification_templates.txt (`{c}` is the class) with one entry a line.

    Args:
        folder: of the set.
        split: a folder in it.
        transform: picture -> (3, H, W) tensor.
        names: of the classes by their numbers; None: the lines of classnames.txt.

    Raises:
        Absent: a shard is missing.
        HelipError: a damaged shard, a sample without a picture, label or caption, a kind of set that cannot be
            evaluated, or not one name for each class.
    """

    def __init__(self, folder: Path, split: str, transform: Transform, names: Sequence[str] | None = None) -> None:
        self.key, self.transform, self.folder = (str(folder), split), transform, folder
        kind = (lines_of(folder / "dataset_type.txt") or ["classification"])[0].lower()
        if kind not in ("classification", "retrieval"):
            raise HelipError(f"{folder} is a {kind} set: only classification and retrieval sets can be evaluated.")
        self.shards, self.storages = _shards(folder, split), Storages()
        second = "cls" if kind == "classification" else "txt"
        self.members: list[tuple[int, int, int]] = []  # (shard, offset, size) of each picture
        contents: list[tuple[bytes, str]] = []
        for number, shard in enumerate(self.shards):
            for picture, content, where in _samples(shard, second):
                self.members.append((number, *picture))
                contents.append((content, where))
        if not self.members:
            raise HelipError(f"{folder / split} holds no sample: fetch it again.")
        if kind == "retrieval":
            self.captions = [_captions(*one) for one in contents]
            return
        self.labels = np.array([_label(*one) for one in contents], np.int64)
        self.names = self._names(names, contents)
        lines = lines_of(folder / "zeroshot_classification_templates.txt") or []
        self.templates = tuple(template(line) for line in lines if line) or None

    def _names(self, names: Sequence[str] | None, contents: Sequence[tuple[bytes, str]]) -> list[str] | None:
        """The given names of the classes, else those of classnames.txt. Raises HelipError if there are too few."""
        own, last = lines_of(self.folder / "classnames.txt"), int(self.labels.argmax())
        if names is not None:
            classes = len(own or []) or int(self.labels[last]) + 1
            if len(names) != classes:
                raise HelipError(
                    f"{len(names)} class names for the {classes} classes of {self.folder}: give one for each."
                )
            own = list(names)
        if own is not None and self.labels[last] >= len(own):
            raise HelipError(
                f"{contents[last][1]} names class {self.labels[last]}, but {self.folder} has {len(own)} class names, "
                "from 0: give a name for each class"
            )
        return own

    def __len__(self) -> int:
        return len(self.members)

    def source(self, position: int) -> tuple[bytes, str]:
        shard, offset, size = self.members[position]
        path = self.shards[shard]
        return self.storages.of(path).read(path, offset, size), f"picture {position} of {path}"


def is_wds(folder: Path) -> bool:
    """Whether a directory has clip-benchmark's format."""
    return any(folder.glob("*/nshards.txt")) or any(folder.glob("*/0.tar"))


def _shards(folder: Path, split: str) -> list[Path]:
    """The tars of a split in order: the number that nshards.txt gives, else all that exist."""
    lines = lines_of(folder / split / "nshards.txt")
    if lines and lines[0].isdigit():
        shards = [folder / split / f"{number}.tar" for number in range(int(lines[0]))]
    else:
        found = [path for path in (folder / split).glob("*.tar") if re.fullmatch(r"\d+", path.stem)]
        shards = sorted(found, key=lambda path: int(path.stem))
    missing = [path for path in shards if not path.is_file()]
    get = f"fetch them from {HUB}/{folder.name} if it has them"
    if not shards:
        there = sorted({path.parent.name for path in folder.glob("*/*.tar")})
        raise no_split(split, f"{folder} has no split {split}, but {', '.join(there) or 'none at all'}: {get}")
    if missing:
        what = f"{len(missing)} of its {len(shards)} shards ({missing[0].name})"
        raise Absent(f"the {split} split in {folder} lacks {what}: {get}")
    return shards


def _samples(shard: Path, second: str) -> Iterator[tuple[tuple[int, int], bytes, str]]:
    """(offset, size) of each picture, the content of its member with the extension `second`, and that member's place.

    The members of a sample share a key, in any order.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        for member in scan_tar(shard):
            match = NAME.match(member.name)
            if match is None:
                continue
            members, extension = found.setdefault(match[1], {}), match[2].lower()
            if extension in members:
                raise HelipError(f"{member.name} is twice in {shard}: fetch or write the shard again")
            members[extension] = (member.offset, member.size)
    except TarError as error:
        raise HelipError(f"{shard} is damaged after {len(found)} samples: {error}; fetch it again.") from error
    storage = Storages().of(shard)
    for key, members in found.items():
        picture = next((members[ext] for ext in IMAGE_EXTENSIONS if ext in members), None)
        if picture is None or second not in members:
            there = ", ".join(f".{extension}" for extension in members)
            what = f"no .{second}" if picture else f"no picture ({', '.join(IMAGE_EXTENSIONS)})"
            raise HelipError(f"{key} in {shard} has {what} beside {there}: fetch or write the shard again.")
        yield picture, storage.read(shard, *members[second]), f"{key}.{second} in {shard}"


def _label(content: bytes, where: str) -> int:
    """The class number in a .cls file."""
    text = content.strip()
    if not text.isdigit():
        raise HelipError(
            f"{where} must hold the number of a class, from 0, but holds {_shown(text)}: write the number, and the "
            "name into classnames.txt"
        )
    return int(text)


def _captions(content: bytes, where: str) -> tuple[str, ...]:
    """One caption per line, without the blank lines."""
    captions = tuple(line.strip() for line in text_of(content, where).splitlines())
    captions = tuple(caption for caption in captions if caption)
    if not captions:
        raise HelipError(
            f"{where} holds no caption, but each picture of a retrieval set needs one: write it, or leave "
            "the picture out"
        )
    return captions


def _shown(text: bytes) -> str:
    """Untrusted bytes for a terminal: shortened, without control characters."""
    return repr(text[:30].decode("utf-8", "replace")) if text else "nothing"
