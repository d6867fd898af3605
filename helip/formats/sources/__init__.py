"""Layouts of other programs as a stream of image-text pairs, one module for each.

A module of this package holds `recognise(path, options)`, which gives a `Source` or None. There is no list of them: a
new file is a new layout.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, Protocol, TypeVar

from helip.artifacts import members
from helip.errors import HelipError
from helip.formats.lists import BadLine

IMAGE_COLUMNS = ("filepath", "image", "image_path", "file_name", "filename", "path", "img_path", "img", "jpg", "png")
CAPTION_COLUMNS = ("title", "caption", "text", "captions", "txt", "comment", "description", "sentence", "sentences")
IMAGES, CAPTIONS, METADATA = (*members.IMAGES, "avif"), members.CAPTIONS, ("json",)  # suffixes, the preferred first
Found = TypeVar("Found")
CURES = "give --columns image=NAME,caption=NAME"


class LeftOut(ValueError):
    """A pair that cannot become a sample.

    Attributes:
        reason: what is counted, the same words for all of a kind.
        expected: its source says itself that there is nothing (a dead link of a download): no error.
    """

    def __init__(self, reason: str, detail: str = "", expected: bool = False) -> None:
        super().__init__(reason, detail, expected)  # all of them, because workers send it pickled
        self.reason, self.expected = reason, expected
        self.detail = detail or f"it has {reason}"

    def __str__(self) -> str:
        return self.detail


class ImageBytes(Protocol):
    """Where the bytes of an image lie; a worker reads them."""

    def read(self) -> bytes:
        """Raises LeftOut when they cannot be read."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """An image in a file of its own."""

    path: Path

    def read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except (OSError, ValueError) as error:
            name = str(self.path)[:200]
            raise LeftOut("no image file", f"{name!r} cannot be read ({error.__class__.__name__})") from error


@dataclass(frozen=True)
class Item:
    """One image-text pair as its source lists it.

    Attributes:
        where: list and line, or file, for messages.
        image: None where the source has none.
        captions: one or more; empty ones are dropped later.
        fields: what else the source says, for the .json member.
        problem: why it is no pair, if that is known already.
    """

    where: str
    image: ImageBytes | None
    captions: Sequence[Any] = ()
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    problem: LeftOut | None = None


@dataclass(frozen=True)
class Options:
    """What the command line says of a source.

    Attributes:
        columns: names of the columns `image` and `caption` where they are not the usual ones.
        separator: of a list; None to tell it from the header.
        quoting: "none" where quotation marks are letters like others.
        images: the folder that relative image paths start from; None for the list's own.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    separator: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"
    images: Path | None = None


class Source(Protocol):
    """A recognised layout.

    Attributes:
        kind: what it was taken for, in words.
        files: whose names, sizes and times tell an unchanged source.
        warnings: sentences, complete when `items` has ended.
    """

    kind: str
    files: list[Path]
    warnings: list[str]

    def items(self, scratch: Path) -> Iterator[Item]:
        """All pairs, in an order that depends on the source alone; `scratch` is a folder for what must be unpacked."""
        ...


@dataclass
class ListedSource:
    """A source whose pairs are listed in one file."""

    path: Path
    warnings: list[str] = field(default_factory=list[str], kw_only=True)

    @property
    def files(self) -> list[Path]:
        return [self.path]


def recognise(path: Path, options: Options) -> Source:
    """What a path holds.

    Raises:
        HelipError: it is not there, or is none of the layouts that are known.
    """
    if not path.exists():
        raise HelipError(f"{path} cannot be read: there is no such file or folder")
    layouts = sorted(module.name for module in iter_modules(__path__))
    for name in layouts:
        if found := import_module(f"{__name__}.{name}").recognise(path, options):
            return found
    raise HelipError(
        f"{path} is none of the layouts that are known ({', '.join(layouts)}; docs/your_data.md shows each): name the "
        f"list itself where a folder holds one, and for columns of other names {CURES}"
    )


def column(names: Sequence[str], options: Options, what: Literal["image", "caption"]) -> str | None:
    """The name of the column that holds the image or the caption; None where no usual one is there.

    Raises:
        HelipError: the one that was asked for is not there.
    """
    if (asked := options.columns.get(what)) is not None:
        if asked not in names:
            raise HelipError(f"--columns {what}={asked}: there is no such column, only {', '.join(map(repr, names))}")
        return asked
    lower = {name.lower(): name for name in reversed(names)}
    usual = IMAGE_COLUMNS if what == "image" else CAPTION_COLUMNS
    return next((lower[name] for name in usual if name in lower), None)


def as_captions(value: Any) -> Sequence[Any]:
    """One caption or several, as a list."""
    return value if isinstance(value, list | tuple) else [value]


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


def malformed(where: str, line: BadLine) -> Item:
    """A line of a list that cannot be read."""
    return Item(where, None, problem=LeftOut("a malformed line", str(line)))


def damaged_text(where: str, error: Exception) -> Item:
    """A sample whose caption or .json cannot be read."""
    detail = f"its text or .json cannot be read ({type(error).__name__})"
    return Item(where, None, problem=LeftOut("a caption that cannot be read", detail))


def place_of_images(path: Path, first: str, places: Sequence[Path], options: Options) -> Path:
    """The folder from which the list `path` names its images. Raises HelipError when the first is in none of them."""
    for place in [options.images] if options.images else places:
        if (place / first).is_file():
            return place
    raise HelipError(f"{first}, the first image of {path}, is in no folder near it: give --images FOLDER")
