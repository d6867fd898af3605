"""Parquet and Arrow tables with the bytes or the paths of images: Hugging Face data sets and img2dataset's parquet.

Read with pyarrow, row group by row group: the `datasets` library would first copy a parquet file into its own cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from helip.errors import HelipError
from helip.formats.sources import (
    ImageFile,
    Item,
    LeftOut,
    Options,
    Source,
    as_captions,
    both_columns,
    column,
    failed_download,
)

SUFFIXES = (".parquet", ".arrow")
SPLITS = ("train", "validation", "val", "dev", "test")
LISTED_ELSEWHERE = ("metadata.parquet",)  # of an image folder


@dataclass(frozen=True)
class TableCell:
    """The image in a row of a row group: bytes, a path, or the Image of Hugging Face, which has either."""

    file: Path
    group: int
    row: int
    column: str
    root: Path

    def read(self) -> bytes:
        value = _column(self.file, self.group, self.column)[self.row].as_py()
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value:
            return ImageFile(self.root / value).read()
        if not value:
            raise LeftOut("no image")
        return value


def _groups(file: Path) -> int:
    return pq.ParquetFile(file).num_row_groups if file.suffix == ".parquet" else 1


def _schema(file: Path) -> pa.Schema:
    return pq.read_schema(file) if file.suffix == ".parquet" else _arrow(file).schema


def _table(file: Path, group: int, columns: list[str]) -> pa.Table:
    if file.suffix == ".parquet":
        return pq.ParquetFile(file).read_row_group(group, columns=columns)
    return _arrow(file).select(columns)


@lru_cache(maxsize=1)  # rows come in order, so each worker reads each group at most once
def _column(file: Path, group: int, name: str) -> pa.ChunkedArray:
    return _table(file, group, [name])[name]


@lru_cache(maxsize=1)
def _arrow(file: Path) -> pa.Table:
    """A memory map; `save_to_disk` writes streams, `feather` and others write files."""
    mapped = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(mapped).read_all()


@dataclass
class TableSource(Source):
    """A pair for each row; every column except the images goes into the .json member."""

    image: str
    caption: str
    root: Path

    @property
    def kind(self) -> str:
        what = "an Arrow" if self.path.suffix == ".arrow" else "a parquet"
        many = f" in {len(self.files):,} files" if len(self.files) > 1 else ""
        return f"{what} table{many}: images in {self.image!r}, captions in {self.caption!r}"

    def items(self, scratch: Path) -> Iterator[Item]:
        number = 0
        for file in self.files:
            kinds = {one.name: one.type for one in _schema(file)}
            light = [name for name, kind in kinds.items() if name != self.image and not _holds_bytes(kind)]
            for group in range(_groups(file)):
                for row, entry in enumerate(_table(file, group, light).to_pylist()):
                    where = f"{file.name}, row {number}"
                    number += 1
                    yield self._item(where, TableCell(file, group, row, self.image, self.root), entry)

    def _item(self, where: str, image: TableCell, entry: dict[str, Any]) -> Item:
        status = entry.get("status", "success")
        if "error_message" in entry and status != "success":  # img2dataset keeps a row for each dead link
            return failed_download(where, status)
        return Item(where, image, as_captions(entry[self.caption]), entry)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(n).type) for n in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def recognise(path: Path, options: Options) -> TableSource | None:
    """Raises HelipError for a damaged table, several splits, or columns of other names."""
    files = [path] if path.suffix in SUFFIXES and path.is_file() else _tables_in(path)
    if not files:
        return None
    try:
        schema = _schema(files[0])
    except (OSError, pa.ArrowException) as error:
        raise HelipError(f"{files[0]} cannot be read as a table ({error})") from error
    if path.is_dir() and column(schema.names, options, "image") is None:
        return None  # the tables beside img2dataset's tars hold no images
    image, caption = both_columns(files[0], schema.names, options)
    return TableSource(files, image, caption, options.images or files[0].parent)


def _tables_in(folder: Path) -> list[Path]:
    """Raises HelipError for tables of several splits, because test data must not be trained on."""
    if not folder.is_dir():
        return []
    found = sorted(file for suffix in SUFFIXES for file in folder.rglob(f"*{suffix}"))
    found = [file for file in found if file.name not in LISTED_ELSEWHERE and not file.name.startswith("cache-")]
    splits = {_split(file.relative_to(folder)) for file in found} - {None}
    if len(splits) > 1:
        raise HelipError(
            f"{folder} holds the splits {', '.join(sorted(map(str, splits)))}: convert each into its own folder, "
            f"such as {found[0]}; first move the files of a split into one folder"
        )
    return found


def _split(file: Path) -> str | None:
    words = [part.replace("_", "-").split("-")[0] for part in (*file.parent.parts, file.stem)]
    return next((word for word in words if word in SPLITS), None)
