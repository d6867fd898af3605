"""Layouts of other programs as streams of image-text pairs; a new module of this package is a new layout.

Each module defines `recognise(path, options)`, which returns a `Source`, or None for other layouts.
"""

import json
from abc import ABC, abstractmethod
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
        reason: words by which such pairs are counted.
        expected: the source itself says that there is nothing (a dead link of a download), which is no error.
    """

    def __init__(self, reason: str, detail: str = "", expected: bool = False) -> None:
        super().__init__(reason, detail, expected)  # all of them, because workers send it pickled
        self.reason, self.expected = reason, expected
        self.detail = detail or f"it has {reason}"

    def __str__(self) -> str:
        return self.detail


class ImageBytes(Protocol):
    """The place of an image, which a worker reads."""

    def read(self) -> bytes:
        """Raises LeftOut when the image cannot be read."""
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
        image: None if the source has none.
        captions: empty ones are dropped later.
        fields: further fields of the source, for the .json member.
        problem: why it is no pair, if that is known already.
    """

    where: str
    image: ImageBytes | None
    captions: Sequence[Any] = ()
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    problem: LeftOut | None = None


@dataclass(frozen=True)
class Options:
    """Options of the command line about a source.

    Attributes:
        columns: names of the columns `image` and `caption`, if they have unusual names.
        separator: of a list; None: recognised from the header.
        quoting: "none" if quotation marks are ordinary characters.
        images: the folder that relative image paths start from; None for the list's own.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    separator: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"
    images: Path | None = None


@dataclass
class Source(ABC):
    """A recognised layout.

    Attributes:
        files: the source is unchanged if their names, sizes and times are; the first one is the list, if there is one.
        warnings: sentences, complete when `items` has ended.
    """

    files: list[Path]
    warnings: list[str] = field(default_factory=list[str], kw_only=True)

    @property
    def path(self) -> Path:
        """The list, or the first file."""
        return self.files[0]

    @property
    @abstractmethod
    def kind(self) -> str:
        """The layout in words."""

    @abstractmethod
    def items(self, scratch: Path) -> Iterator[Item]:
        """All pairs, in an order that depends only on the source; unpacked files go into the folder `scratch`."""


def recognise(path: Path, options: Options) -> Source:
    """The source at a path. Raises HelipError if the path does not exist, or has none of the known layouts."""
    if not path.exists():
        raise HelipError(f"{path} cannot be read: there is no such file or folder")
    layouts = sorted(module.name for module in iter_modules(__path__))
    for name in layouts:
        if found := import_module(f"{__name__}.{name}").recognise(path, options):
            return found
    raise HelipError(
        f"{path} has none of the known layouts ({', '.join(layouts)}; docs/your_data.md shows each): name the list in "
        f"the folder itself, and for columns with unusual names {CURES}"
    )


def column(names: Sequence[str], options: Options, what: Literal["image", "caption"]) -> str | None:
    """The column of the images or captions; None if none has a usual name. Raises HelipError for a wrong --columns."""
    if (asked := options.columns.get(what)) is not None:
        if asked not in names:
            raise HelipError(f"--columns {what}={asked}: there is no such column, only {', '.join(map(repr, names))}")
        return asked
    lower = {name.lower(): name for name in reversed(names)}
    usual = IMAGE_COLUMNS if what == "image" else CAPTION_COLUMNS
    return next((lower[name] for name in usual if name in lower), None)


def both_columns(
    path: Path, names: Sequence[str], options: Options, image: str | None = None, cure: str = CURES
) -> tuple[str, str]:
    """The columns of image and caption in the list or table `path`.

    Args:
        image: the column of the images, if it is known already.
        cure: the end of the message.

    Raises:
        HelipError: one of them is not found.
    """
    image, caption = image or column(names, options, "image"), column(names, options, "caption")
    if image is None or caption is None:
        lacking = "images" if image is None else "captions"
        known = ", ".join(map(repr, names)) or "none"
        raise HelipError(f"{path} has no known column for the {lacking}, only {known}: {cure}")
    return image, caption


def as_captions(value: Any) -> Sequence[Any]:
    """One or several captions as a list."""
    return value if isinstance(value, list | tuple) else [value]


def chosen(files: Mapping[str, Found]) -> tuple[Found | None, Found | None, Found | None]:
    """Image, caption and metadata among the files of one sample, by extension in lower case without its dot."""
    image, caption, metadata = (
        next((files[name] for name in names if name in files), None) for names in (IMAGES, CAPTIONS, METADATA)
    )
    return image, caption, metadata


def passed_over(files: Mapping[str, Found]) -> int:
    """Number of images and captions beside the chosen ones."""
    return sum(max(0, sum(name in files for name in names) - 1) for names in (IMAGES, CAPTIONS))


def captions_and_fields(
    text: str | None, metadata: str | bytes | None, caption: str | None
) -> tuple[Sequence[Any], dict[str, Any]]:
    """Captions of a sample, and the fields of its .json.

    Args:
        text: the caption file; None: the captions are in the field `caption` of the .json.

    Raises:
        ValueError: the .json cannot be parsed.
    """
    fields: Any = {} if metadata is None else json.loads(metadata)
    fields = fields if isinstance(fields, dict) else {}
    return [text] if text is not None else as_captions(fields.get(caption or "caption")), fields


def malformed(where: str, line: BadLine) -> Item:
    """A line of a list that cannot be read."""
    return Item(where, None, problem=LeftOut("a malformed line", str(line)))


def damaged_text(where: str, error: Exception) -> Item:
    """A sample whose caption or .json cannot be read."""
    detail = f"its text or .json cannot be read ({type(error).__name__})"
    return Item(where, None, problem=LeftOut("a caption that cannot be read", detail))


def failed_download(where: str, status: Any) -> Item:
    """A pair that img2dataset could not download."""
    return Item(where, None, problem=LeftOut(str(status), f"img2dataset says {status}", expected=True))


def place_of_images(path: Path, first: str, places: Sequence[Path], options: Options) -> Path:
    """The folder with the image paths of the list `path`. Raises HelipError if the first image is in no folder."""
    for place in [options.images] if options.images else places:
        if (place / first).is_file():
            return place
    raise HelipError(f"{first}, the first image of {path}, is in no folder near it: give --images FOLDER")
