"""Shards as a CSV list with extracted images, for open_clip's `--dataset-type csv` and the released fork.

It replaces the released wbs_to_csv.py, without its faults: the last shard is extracted, an image is named by its row
(keys repeat across shards), captions are decoded, and a row whose image or caption cannot be read has no line. Further
columns hold the row, its key and its url; open_clip ignores them.

Legend: L lines of a list.
"""

import argparse
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helip.artifacts.atomic import atomic_folder, read_json, write_json
from helip.artifacts.reading import check_version
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, Unreadable, url_of
from helip.errors import HelipError
from helip.formats.lists import BadLine, DelimitedList, check_separator
from helip.formats.options import add_shards, file_name, new_folder, open_shards
from helip.formats.options import separator as one_separator
from helip.formats.packing import image_extension

VERSION = 1
COLUMNS = ("filepath", "title", "key", "url", "row")
# pandas.read_csv reads these as missing values (pandas.io.parsers, STR_NA_VALUES): open_clip would train on "nan".
NOT_A_VALUE = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # \r too: csv leaves it unquoted, to pandas it ends a line
SHOWN = 5  # rows without a line that are named


def shards_to_csv(index: ShardIndex, out: Path, name: str, separator: str = ",", caption: str = "txt") -> list[str]:
    """Write the list NAME.csv, NAME.json with its origin, and the images below `out`/images.

    The image bytes are those of the shards. A control character becomes a space. A caption that pandas would read as a
    missing value gets a space at its end. Tokenizers strip both.

    Args:
        out: a new folder; the CSV contains its absolute path.
        separator: one character; open_clip's --csv-separator.
        caption: as data.caption; the first one of a list.

    Returns:
        The number of lines, and examples of rows without a line, as sentences.

    Raises:
        HelipError: `out` exists already, or no row can be read.
    """
    target = new_folder(out)
    check_separator(separator)
    reader, shown, lines = SampleReader(index, caption), [], 0
    with atomic_folder(target) as temporary:
        with open(temporary / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=separator, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in range(len(index)):
                try:
                    raw = reader.read(row)
                    extension = image_extension(raw.image)
                except Unreadable as error:
                    if len(shown) < SHOWN:
                        shown.append(f"{index.where(row)}: {error}")
                    continue
                path = Path("images") / f"{int(index.shard_of(row)):05d}" / f"{row:09d}.{extension}"
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                (temporary / path).write_bytes(raw.image)
                key, url = (CONTROL.sub(" ", text) for text in (index.key(row), url_of(reader, row) or ""))
                writer.writerow([target / path, _title(raw.captions[0]), key, url, row])
                lines += 1
        if not lines:
            raise HelipError(f"no row of {index.shards[0].parent} can be read, the first is {shown[0]}")
        about = {"version": VERSION, "fingerprint": index.fingerprint, "separator": separator, "lines": lines}
        write_json(temporary / f"{name}.json", about)
    lost = [f"{len(index) - lines:,} rows cannot be read and have no line, such as:"] if shown else []
    return [f"{lines:,} lines in {target / name}.csv", *lost, *shown]


def _title(caption: str) -> str:
    clean = CONTROL.sub(" ", caption)
    return f"{clean} " if clean in NOT_A_VALUE else clean


@dataclass(frozen=True)
class TrainingList:
    """A list as `shards_to_csv` wrote it; `rows` is (L,) int64."""

    path: Path
    fingerprint: str
    separator: str
    rows: np.ndarray

    def urls(self) -> Iterator[str | None]:
        """The url of each line."""
        return (entry["url"] or None for entry in _entries(self.path, self.separator))


def read_list(path: Path) -> TrainingList:
    """Open a list. Raises HelipError if it is not written by `shards_to_csv`, is damaged, or has another format."""
    about = path.with_suffix(".json")
    try:
        facts = read_json(about)
    except (OSError, ValueError) as error:
        raise HelipError(f"{path} needs {about.name} beside it: write both with shards-to-csv ({error})") from error
    check_version(facts.get("version"), VERSION, "the training list", path.parent, "write it again with shards-to-csv")
    try:
        rows = np.array([int(entry["row"]) for entry in _entries(path, facts["separator"])], np.int64)
    except (ValueError, TypeError, KeyError) as error:
        raise HelipError(f"{path} is not as shards-to-csv wrote it ({error!r}): write it again") from error
    if len(rows) != facts["lines"] or (np.diff(rows) <= 0).any():
        raise HelipError(f"{path} is not as shards-to-csv wrote it (lines are missing or moved): write it again")
    return TrainingList(path, facts["fingerprint"], facts["separator"], rows)


def _entries(path: Path, separator: str) -> Iterator[dict[str, str]]:
    for number, entry in DelimitedList(path, separator).entries():
        if isinstance(entry, BadLine):
            raise HelipError(f"{path}, line {number}: {entry}")
        yield entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path)
    add_shards(parser)
    parser.add_argument("--name", type=file_name, required=True, help="of the list: OUT/NAME.csv")
    parser.add_argument("--separator", type=one_separator, default=",", help="one character, or tab (default: a comma)")
    parser.add_argument("--caption", default="txt", help="the .txt member, or a field of the .json member")


def run(arguments: argparse.Namespace) -> list[str]:
    shards = open_shards(arguments.shards)
    return shards_to_csv(shards, arguments.out, arguments.name, arguments.separator, arguments.caption)
