"""Flickr8k and Flickr30k as distributed: a list with five captions of each photo, and a folder of photos.

`captions.txt` (header `image,caption`), `results.csv` (`image_name| comment_number| comment`) and the older
`*.token` files (`photo.jpg#0<TAB>caption`, no header).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helip.errors import HelipError
from helip.formats.lists import BadLine, DelimitedList
from helip.formats.sources import ImageFile, Item, Options, Source, malformed, place_of_images

HEADERS: dict[str, tuple[list[str], str]] = {
    "captions.txt": (["image", "caption"], ","),
    "results.csv": (["image_name", "comment_number", "comment"], "|"),
}
TOKENS = ("Flickr8k.token.txt", "Flickr8k.lemma.token.txt", "results_20130124.token")
PHOTOS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k_images", "flickr30k-images", "")
TOKEN = re.compile(r"(.+?)#(\d+)\t(.*)")


@dataclass
class FlickrSource(Source):
    """A pair for each photo with all of its captions, in the order of the first captions."""

    photos: Path

    @property
    def kind(self) -> str:
        name = f"Flickr8k's or Flickr30k's {self.path.name}"
        return f"{name} with the photos in {self.photos}: captions of one photo are joined"

    def items(self, scratch: Path) -> Iterator[Item]:
        captions: dict[str, list[str]] = {}
        lines: dict[str, int] = {}
        bad: list[Item] = []
        for number, found in self._lines():
            if isinstance(found, BadLine):
                bad.append(malformed(f"{self.path}, line {number}", found))
                continue
            name, caption = found
            captions.setdefault(name, []).append(caption)
            lines.setdefault(name, number)
        for name, texts in captions.items():
            yield Item(f"{self.path}, line {lines[name]}", ImageFile(self.photos / name), texts, {"url": name})
        yield from bad

    def _lines(self) -> Iterator[tuple[int, tuple[str, str] | BadLine]]:
        if self.path.name in TOKENS:
            for number, line in enumerate(self.path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                match = TOKEN.fullmatch(line)
                yield number, (match[1], match[3]) if match else BadLine("it is not photo.jpg#0<TAB>caption")
            return
        listed = DelimitedList(self.path, HEADERS[self.path.name][1], quoting=self.path.name == "captions.txt")
        for number, entry in listed.entries():
            if isinstance(entry, BadLine):
                yield number, entry
            else:
                values = [value.strip() for value in entry.values()]
                yield number, (values[0], values[-1])
        self.warnings = listed.warnings()


def is_caption_file(path: Path) -> bool:
    """Whether a file has both the name and the first line of one of these lists."""
    if path.name in TOKENS:
        return path.is_file()
    columns, separator = HEADERS.get(path.name, (None, ","))
    return path.is_file() and columns is not None and DelimitedList(path, separator, False).header() == columns


def recognise(path: Path, options: Options) -> FlickrSource | None:
    """Raises HelipError if the photos are not found beside the list."""
    if path.is_dir():
        path = next((path / name for name in (*HEADERS, *TOKENS) if is_caption_file(path / name)), path)
    if not is_caption_file(path):
        return None
    source = FlickrSource([path], path.parent)
    first = next((found[0] for _, found in source._lines() if not isinstance(found, BadLine)), None)
    if first is None:
        raise HelipError(f"{path} has no line with a photo and its caption: rename it if it is another list")
    source.photos = place_of_images(path, first, [path.parent / name for name in PHOTOS], options)
    return source
