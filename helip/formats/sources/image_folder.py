"""Hugging Face's imagefolder: pictures, and a `metadata.jsonl`, `.csv` or `.parquet` that describes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from helip.errors import HelipError
from helip.formats.lists import BadLine, DelimitedList
from helip.formats.sources import ImageFile, Item, Options, Source, as_captions, both_columns, column, malformed

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


@dataclass
class ImageFolderSource(Source):
    """A pair for each line of the metadata."""

    image: str
    caption: str
    root: Path

    @property
    def kind(self) -> str:
        return f"an image folder with {self.path.name}: images in {self.image!r}, captions in {self.caption!r}"

    def items(self, scratch: Path) -> Iterator[Item]:
        for number, entry in _entries(self.path):
            where = f"{self.path}, line {number}"
            if isinstance(entry, BadLine):
                yield malformed(where, entry)
                continue
            name = entry.get(self.image)
            image = ImageFile(self.root / name) if isinstance(name, str) and name else None
            yield Item(where, image, as_captions(entry.get(self.caption)), {"url": name, **entry})


def _entries(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    if path.suffix == ".csv":
        yield from DelimitedList(path, ",").entries()
    elif path.suffix == ".parquet":
        try:
            yield from enumerate(pq.read_table(path).to_pylist(), 1)
        except (OSError, pa.ArrowException) as error:
            raise HelipError(f"{path} cannot be read as a parquet file ({error})") from error
    else:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(line)


def _object(line: str) -> dict[str, Any] | BadLine:
    try:
        entry = json.loads(line)
    except ValueError as error:
        return BadLine(f"it is not JSON ({error})")
    return entry if isinstance(entry, dict) else BadLine("it is not a JSON object")


def recognise(path: Path, options: Options) -> ImageFolderSource | None:
    """Raises HelipError if each split has its own metadata, or if the metadata name no image or no caption."""
    if path.is_dir():
        listed = next((path / name for name in METADATA if (path / name).is_file()), None)
        if listed is None:
            below = sorted(found.parent for name in METADATA for found in path.glob(f"*/{name}"))
            if below:
                raise HelipError(
                    f"{path} has the metadata of several splits ({', '.join(place.name for place in below)}): convert "
                    f"each into its own folder, such as {below[0]}"
                )
            return None
        path = listed
    if path.name not in METADATA or not path.is_file():
        return None
    first = next((entry for _, entry in _entries(path) if not isinstance(entry, BadLine)), {})
    image = "file_name" if "file_name" in first and "image" not in options.columns else None
    image = image or column(list(first), options, "image")
    image = image or next((name for name in first if name.endswith("_file_name")), None)
    image, caption = both_columns(path, list(first), options, image)
    return ImageFolderSource([path], image, caption, options.images or path.parent)
