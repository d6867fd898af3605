"""An index as the authors' three files, so that their fork of open_clip trains on the mined pairs.

Ids are lines of the training list (helip.formats.shards_to_csv), as their loader expects, so that fault 1 cannot occur.
Their loader draws one of the first 50 ids of a target. If there are fewer, it may draw a random row, or one beyond the
last. A shorter list is therefore repeated up to 50 ids.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.formats.options import file_name
from helip.formats.released_files import write_hard_samples, write_url_index
from helip.formats.shards_to_csv import read_list

DRAWN = 50  # CustomDistributedSampler(topk=50) in their data.py


def to_released(index: HardPairIndex, training_list: Path, out: Path, name: str) -> list[str]:
    """Write url_index/NAME_url_index.json, NAME_hard_sample.csv and NAME_hard_sample_dict.json into `out`.

    Args:
        training_list: the CSV that `shards-to-csv` wrote from the mined shards.

    Returns:
        Numbers of lines with hard pairs, with a repeated url and without url, as sentences.

    Raises:
        HelipError: the list was written from other shards.
    """
    found = read_list(training_list)
    if found.fingerprint != index.meta.get("fingerprint"):
        raise HelipError(
            f"{training_list} was written from other shards (fingerprint {found.fingerprint[:8]}) than the hard pairs "
            f"were mined on ({str(index.meta.get('fingerprint'))[:8]}): write it again with shards-to-csv"
        )
    line_of_row = np.full(len(index), -1, np.int64)
    line_of_row[found.rows] = np.arange(len(found.rows))

    def entries() -> Iterator[tuple[int, np.ndarray]]:
        for line, row in enumerate(found.rows):
            partners = np.asarray(index.rows[row])
            lines = line_of_row[partners[partners >= 0]]
            lines = lines[lines >= 0]
            if len(lines):
                yield line, np.resize(lines, max(DRAWN, len(lines)))

    csv_path, dict_path = out / f"{name}_hard_sample.csv", out / f"{name}_hard_sample_dict.json"
    for older in (csv_path, dict_path):  # an interrupted export must not leave ids of one list beside urls of another
        older.unlink(missing_ok=True)
    repeated, missing = write_url_index(out / "url_index" / f"{name}_url_index.json", found.urls())
    targets = write_hard_samples(csv_path, dict_path, entries())
    count = len(found.rows)
    said = [f"{targets:,} of {count:,} lines have hard pairs"]
    if targets < count:
        said.append(f"{count - targets:,} have none: their loader gives these a random partner")
    if repeated or missing:
        said.append(
            f"{repeated:,} lines repeat a url and {missing:,} have none: the url index lacks them, but the ids of the "
            "hard samples are right (from-released --order row --training-list reads them)"
        )
    return said


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", type=Path)
    parser.add_argument("training_list", type=Path, help="written by shards-to-csv")
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", type=file_name, required=True, help="of the dataset: NAME_hard_sample.csv")


def run(arguments: argparse.Namespace) -> list[str]:
    index = HardPairIndex.load(arguments.index)
    return to_released(index, arguments.training_list, arguments.out, arguments.name)
