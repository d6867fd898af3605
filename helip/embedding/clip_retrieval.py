"""Embeddings of clip-retrieval, matched to the rows of the shards.

A folder holds `img_emb/img_emb_3.npy`, `text_emb/text_emb_3.npy` and `metadata/metadata_3.parquet`, with zero-padded
numbers if there are several (clip_retrieval/clip_inference/writer.py). A part holds every n-th shard, in the order in
which loader workers finished, without failed samples. Entries are therefore matched to rows by key, url and caption, as
far as the metadata has them. A key alone is not enough, because img2dataset repeats keys in every dataset. Rows or
entries with equal descriptions are not matched.

Legend: N rows of the ShardIndex, E entries over all parts, d width.
"""

import re
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from helip.artifacts.arrays import new_array
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, caption_of, clean_caption, url_of
from helip.embedding.arrays import open_floats
from helip.errors import HelipError

FOLDERS = {"image": "img_emb", "text": "text_emb"}
IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|webp)$", re.IGNORECASE)
MOST_MISSING = 0.1  # assumption: with more missing rows it is another dataset, not failed samples
BLOCK = 1 << 14  # rows copied at a time


@dataclass(frozen=True)
class EmbeddingFolder:
    """One modality of a folder.

    Attributes:
        side: "image" or "text".
    """

    folder: Path
    side: str

    @cached_property
    def numbers(self) -> dict[int, Path]:
        """The .npy file of each part. Raises HelipError if there is none."""
        name = FOLDERS[self.side]
        parts = _numbered(self.folder / name, f"{name}_", ".npy")
        if not parts:
            raise HelipError(f"{self.folder} is no folder of clip-retrieval: it has no {name}/{name}_NUMBER.npy")
        return parts

    @cached_property
    def arrays(self) -> list[np.ndarray]:
        """Memory maps of all parts, (E_part, d) each. Raises HelipError if their widths or types differ."""
        arrays = [open_floats(path, self.side) for path in self.numbers.values()]
        kinds = {(array.shape[1], array.dtype.str) for array in arrays}
        if len(kinds) > 1:
            place = self.folder / FOLDERS[self.side]
            raise HelipError(f"the parts in {place} differ in width or type ({sorted(kinds)}): keep those of one run")
        return arrays

    @cached_property
    def ends(self) -> np.ndarray:
        """(parts,) cumulative number of entries."""
        return np.cumsum([len(array) for array in self.arrays])

    @property
    def files(self) -> list[Path]:
        """The files that determine the embeddings and their rows."""
        return [*self.numbers.values(), *self._metadata.values()]

    @cached_property
    def _metadata(self) -> dict[int, Path]:
        return _numbered(self.folder / "metadata", "metadata_", ".parquet")

    def entries(self) -> pa.Table:
        """`entry` (E,) with `key`, and `url` and `caption` if present. Raises HelipError for missing metadata."""
        if self._metadata.keys() != self.numbers.keys():
            odd = sorted(self._metadata.keys() ^ self.numbers.keys())
            raise HelipError(f"{self.folder}: part {odd[0]} has no metadata or no embeddings: run inference again")
        tables = []
        for (number, path), array in zip(self._metadata.items(), self.arrays, strict=True):
            table = _read(path)
            if len(table) != len(array):
                raise HelipError(
                    f"{path} describes {len(table):,} entries, but {self.numbers[number].name} has {len(array):,}"
                )
            tables.append(table)
        shared = [name for name in ("key", "url", "caption") if all(name in table.column_names for table in tables)]
        if "key" not in shared:
            raise HelipError(f"{self.folder}/metadata has neither image_path nor key: run inference again")
        if shared == ["key"]:
            raise HelipError(
                f"{self.folder}/metadata has neither urls nor captions, and the keys of every dataset are alike: run "
                "clip-retrieval inference again with --enable_metadata True"
            )
        table = pa.concat_tables([table.select(shared) for table in tables])
        return table.append_column("entry", pa.array(np.arange(len(table))))

    def write(self, path: Path, entry_of_row: np.ndarray) -> None:
        """Write the (N, d) .npy file of the rows in the type of the parts; zeros where `entry_of_row` (N,) is -1."""
        kind = self.arrays[0]
        out = new_array(path, kind.dtype, (len(entry_of_row), kind.shape[1]))
        part_of_row = np.where(entry_of_row < 0, -1, np.searchsorted(self.ends, entry_of_row, side="right"))
        for part, array in enumerate(self.arrays):
            rows = np.flatnonzero(part_of_row == part)
            first = int(self.ends[part]) - len(array)
            for start in range(0, len(rows), BLOCK):
                some = rows[start : start + BLOCK]
                out[some] = array[entry_of_row[some] - first]
        out.flush()


def match_rows(folder: EmbeddingFolder, index: ShardIndex, wanted: np.ndarray) -> np.ndarray:
    """(N,) int64 entry of each row of the shards, -1 for none.

    A description of several rows or entries, or one with only a key, matches nothing.

    Args:
        wanted: (N,) bool, rows that will be mined.

    Raises:
        HelipError: more than a tenth of the wanted rows have no entry.
    """
    theirs = folder.entries()
    names = [name for name in theirs.column_names if name != "entry"]
    ours = _describe(index, names)
    joined = _told_apart(ours, names, "row").join(_told_apart(theirs, names, "entry"), names, join_type="inner")
    entry_of_row = np.full(len(index), -1, np.int64)
    entry_of_row[joined["row"].to_numpy()] = joined["entry"].to_numpy()
    missing = np.flatnonzero(wanted & (entry_of_row < 0))
    if len(missing) > MOST_MISSING * wanted.sum():
        row = int(missing[0])
        raise HelipError(
            f"{len(missing):,} of {int(wanted.sum()):,} rows have no embedding in {folder.folder}, the first is "
            f"{index.where(row)}, {_like(theirs, names, ours, row)}: embed these shards, or set dataset.path to the "
            "embedded ones"
        )
    return entry_of_row


def _told_apart(table: pa.Table, names: list[str], number: str) -> pa.Table:
    """The lines with a unique description that is more than a key."""
    groups = table.group_by(names).aggregate([(number, "count"), (number, "min")])
    more = reduce(or_, (pc.field(name) != "" for name in names if name != "key"))
    alone = groups.filter(more & (pc.field(f"{number}_count") == 1))
    return alone.select([*names, f"{number}_min"]).rename_columns([*names, number])


def _like(theirs: pa.Table, names: list[str], ours: pa.Table, row: int) -> str:
    """How a row differs from the entry with its key."""
    mine = {name: ours[name][row].as_py() for name in names}
    keys = theirs["key"].to_pylist()
    if mine["key"] not in keys:
        return f"whose key no entry has (the first entry has {keys[0]!r})"
    other = {name: theirs[name][keys.index(mine["key"])].as_py() for name in names}
    name = next((name for name in names if other[name] != mine[name]), None)
    if name is None:
        return f"which is not the only row or entry with its {', '.join(names)}"
    return f"whose {name} is {_short(mine[name])} here and {_short(other[name])} there"


def _short(value: str | None) -> str:
    return repr(value if value is None or len(value) < 80 else f"{value[:80]}...")


def _describe(index: ShardIndex, names: list[str]) -> pa.Table:
    """`row` with the columns `names`, from the shards; "" for missing values, as in `_read`."""
    columns: dict[str, pa.Array] = {"row": pa.array(np.arange(len(index)))}
    columns["key"] = pa.array([_base(key) for key in index.keys.to_pylist()], pa.large_string())
    reader = SampleReader(index)
    for name, read in (("url", url_of), ("caption", caption_of)):
        if name in names:
            columns[name] = pa.array((read(reader, row) or "" for row in range(len(index))), pa.large_string())
    return pa.table(columns)


def _read(path: Path) -> pa.Table:
    """`key`, `url`, `caption` of one part, as far as present; "" for missing values, because joins never match null."""
    try:
        there = pq.read_schema(path).names
        table = pq.read_table(path, columns=[name for name in ("image_path", "key", "url", "caption") if name in there])
    except (OSError, pa.ArrowException) as error:
        raise HelipError(f"{path} cannot be read as a parquet file ({error})") from error
    columns: dict[str, pa.Array] = {}
    for name, source, clean in (
        ("key", "image_path" if "image_path" in there else "key", _base),
        ("url", "url", str),
        ("caption", "caption", clean_caption),  # as SampleReader does
    ):
        if source in there:
            columns[name] = pa.array([clean(value or "") for value in _texts(table[source], path)], pa.large_string())
    return pa.table(columns)


def _texts(column: pa.ChunkedArray, path: Path) -> list[str | None]:
    try:
        return column.cast(pa.large_string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise HelipError(f"{path} has keys, urls or captions that are no texts, but {column.type}") from error


def _base(path: str) -> str:
    """A key without folders, and without the suffix that clip-retrieval's reader of plain files keeps."""
    return IMAGE_SUFFIX.sub("", path.rsplit("/", 1)[-1])


def _numbered(folder: Path, prefix: str, suffix: str) -> dict[int, Path]:
    """Files in the order of their numbers. Raises HelipError if two files have one number (3 and 03 of two runs)."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*")):
        if match := re.fullmatch(rf"{prefix}(\d+){re.escape(suffix)}", path.name):
            if other := found.get(int(match[1])):
                raise HelipError(
                    f"{folder} has both {other.name} and {path.name}, left by two runs: keep the files of one run"
                )
            found[int(match[1])] = path
    return dict(sorted(found.items()))
