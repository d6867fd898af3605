"""The authors' hard pairs as an index: helip train paths.index=OUT

Fault 1 of the released scripts: ids are numbered in the order in which a 128-worker loader reads the urls, but training
looks them up by line number in a CSV in shard order. Pairs read by url are right; a file whose ids are line numbers is
right when read by row. If the two orders differ, a test on the pairs decides how to read them.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from helip.artifacts.arrays import new_array
from helip.artifacts.atomic import atomic_folder, digest, file_digest
from helip.artifacts.hard_pairs import ARRAYS, write_meta
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, url_of
from helip.embedding.arrays import open_floats
from helip.errors import HelipError
from helip.formats.kinship import (
    Similarity,
    agreement,
    by_captions,
    by_embeddings,
    refuse_unless_by_url,
    rows_of_ids,
)
from helip.formats.options import add_shards, new_folder, open_shards
from helip.formats.released_files import read_hard_samples, read_url_index
from helip.formats.shards_to_csv import read_list

Order = Literal["auto", "url", "row"]
SHOWN = 3  # examples of entries that cannot be mapped


OUTCOMES = {
    "urls_not_in_shards": "urls of the index are not in these shards",
    "rows_not_in_urls": "rows have a url that the index does not know: they get no hard pairs",
    "rows_without_url": "rows have no url: they get no hard pairs",
    "rows_of_repeated_url": "rows repeat the url of an earlier one, which gets the hard pairs",
    "targets_without_row": "listed targets have no row",
    "targets_repeated": "targets are listed again: their first list counts",
    "partners_without_row": "listed partners have no usable row and are left out",
    "partners_of_themselves": "targets list themselves, which is left out",
    "partners_repeated": "partners are listed twice by their target and count once",
}


@dataclass
class Report:
    """The result of an import.

    Attributes:
        counts: number of `targets` and `pairs`, and of entries by outcome (the keys of OUTCOMES).
        agree: share of the mapped ids that equal their row number; 1 if the two orders are the same.
        examples: urls without an id, each as a sentence.
    """

    counts: Counter[str] = field(default_factory=Counter)
    agree: float = 1.0
    examples: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """One line for each count that is not 0."""
        counts = self.counts
        lines = [f"{counts['targets']:,} targets with {counts['pairs']:,} hard pairs were mapped to rows"]
        lines += [f"{counts[name]:,} {what}" for name, what in OUTCOMES.items() if counts[name]]
        if self.agree < 1:
            lines.append(
                f"only {self.agree:.1%} of the ids are the number of their row: training that looks them up by row "
                "pairs unrelated rows; here they were read by url"
            )
        return lines + [f"e.g. {example}" for example in self.examples]

    def facts(self) -> dict[str, float]:
        """All numbers of the report, for the metadata of the index."""
        return {name: self.counts[name] for name in ("targets", "pairs", *OUTCOMES)} | {"agree": self.agree}


def from_released(
    hard_samples: Path,
    index: ShardIndex,
    folder: Path,
    url_index: Path | None = None,
    order: Order = "auto",
    training_list: Path | None = None,
    similarity: Similarity | None = None,
) -> Report:
    """Write the authors' hard pairs as an index; they have no scores.

    Args:
        hard_samples: the .csv file, or the dictionary as .json.
        folder: a new folder for the index.
        url_index: the .json file; not needed with order="row".
        order: the meaning of an id. "url": the id of a url. "row": the number of a usable row, which is its line in a
            training list. "auto": the id of a url, after a test that the pairs are related if they are read so.
        training_list: the list whose lines the ids are, with order="row"; None: a list of all usable rows.
        similarity: similarity of pairs of rows for that test; None compares the words of captions.

    Raises:
        HelipError: a file cannot be read or has nothing in common with the shards, the order of the ids is unknown, or
            `folder` is not empty.
    """
    if order != "row" and url_index is None:
        raise HelipError(
            "ids are read by url: give --url-index, or say --order row if they are lines of a training list"
        )
    folder, report = new_folder(folder), Report()
    width = max((len(partners) for _, partners in read_hard_samples(hard_samples)), default=0)
    if not width:
        raise HelipError(f"{hard_samples} lists no hard pairs")
    if order == "row" or url_index is None:
        row_of_id = np.flatnonzero(index.valid) if training_list is None else _rows_of_list(training_list, index)
    else:
        row_of_id = _rows_of_urls(read_url_index(url_index), index, report)
        if not (row_of_id >= 0).any():
            raise HelipError(f"no url of {url_index} is in {index.shards[0].parent}: these are other data")
        by_row = np.flatnonzero(index.valid)
        report.agree = agreement(row_of_id, by_row)
        if order == "auto" and report.agree < 1:
            measure = similarity or by_captions(SampleReader(index))
            refuse_unless_by_url(hard_samples, row_of_id, by_row, measure, report.agree)
    with atomic_folder(folder) as temporary:
        _write_arrays(temporary, (len(index), width), _mapped(hard_samples, row_of_id, index.valid, report))
        if not report.counts["targets"]:
            raise HelipError(f"no target of {hard_samples} has a row in {index.shards[0].parent}: these are other data")
        source, names = file_digest(hard_samples), [path.name for path in (hard_samples, url_index) if path]
        imported = {"from": names, "order": order, "report": report.facts()}
        meta = {"fingerprint": index.fingerprint, "imported": imported, "request": {"imported": source}}
        meta |= {"hash": digest([imported, source]), "statistics": {}}
        write_meta(temporary, meta, len(index), width)
    return report


def _rows_of_list(training_list: Path, index: ShardIndex) -> np.ndarray:
    found = read_list(training_list)
    if found.fingerprint != index.fingerprint:
        raise HelipError(f"{training_list} was written from other shards than those in {index.shards[0].parent}")
    return found.rows


def _rows_of_urls(ids: dict[str, int], index: ShardIndex, report: Report) -> np.ndarray:
    """(ids,) int64 row of each id, -1 for none; the first of several rows with the same url."""
    row_of_id = np.full(max(ids.values(), default=-1) + 1, -1, np.int64)
    reader, counts = SampleReader(index), report.counts
    for row in np.flatnonzero(index.valid).tolist():
        url = url_of(reader, row)
        number = ids.get(url) if url is not None else None
        if url is None:
            counts["rows_without_url"] += 1
        elif number is None:
            counts["rows_not_in_urls"] += 1
            if len(report.examples) < SHOWN:
                report.examples.append(f"{index.where(row)} has the url {url[:200]!r}, which has no id")
        elif row_of_id[number] >= 0:
            counts["rows_of_repeated_url"] += 1
        else:
            row_of_id[number] = row
    counts["urls_not_in_shards"] = len(ids) - int((row_of_id >= 0).sum())
    return row_of_id


def _write_arrays(folder: Path, shape: tuple[int, int], mapped: Iterable[tuple[int, np.ndarray]]) -> None:
    """The arrays of a HardPairIndex, with NaN for the unknown scores of the mapped pairs."""
    arrays = {name: new_array(folder / f"{name}.npy", dtype, shape) for name, dtype in ARRAYS.items()}
    arrays["rows"][:] = -1
    for row, partners in mapped:
        for name, array in arrays.items():
            array[row, : len(partners)] = partners if name == "rows" else np.nan
    for array in arrays.values():
        array.flush()


def _mapped(
    hard_samples: Path, row_of_id: np.ndarray, valid: np.ndarray, report: Report
) -> Iterator[tuple[int, np.ndarray]]:
    """Row of each target, with the rows of its partners, in the listed order."""
    done, counts = np.zeros(len(valid), bool), report.counts
    for target, partners in read_hard_samples(hard_samples):
        row = int(row_of_id[target]) if target < len(row_of_id) else -1
        if row < 0 or done[row]:
            counts["targets_without_row" if row < 0 else "targets_repeated"] += 1
            continue
        done[row] = True
        rows = rows_of_ids(np.array(partners, np.int64), row_of_id)
        usable = (rows >= 0) & valid[np.maximum(rows, 0)]
        others = rows[usable & (rows != row)]
        unique = others[np.sort(np.unique(others, return_index=True)[1])]
        counts["partners_without_row"] += int((~usable).sum())
        counts["partners_of_themselves"] += int(usable.sum()) - len(others)
        counts["partners_repeated"] += len(others) - len(unique)
        counts["targets"] += 1
        counts["pairs"] += len(unique)
        yield row, unique


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hard_samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url-index", type=Path, help="NAME_url_index.json")
    add_shards(parser)
    parser.add_argument(
        "--order", choices=("auto", "url", "row"), default="auto", help="meaning of an id; auto: tested on the pairs"
    )
    parser.add_argument(
        "--training-list", type=Path, help="with --order row: the list of shards-to-csv; ids are its lines"
    )
    parser.add_argument("--image", type=Path, help=".npy (N, d) in the order of the rows, to judge pairs by")
    parser.add_argument("--text", type=Path, help="likewise; without them captions are compared")


def run(arguments: argparse.Namespace) -> list[str]:
    if (arguments.image is None) != (arguments.text is None):
        raise HelipError("--image and --text judge pairs together: give both, or neither")
    index = open_shards(arguments.shards)
    similarity = None
    if arguments.image is not None:
        sides = open_floats(arguments.image, "image"), open_floats(arguments.text, "text")
        if any(len(side) != len(index) for side in sides):
            raise HelipError(f"--image and --text must have {len(index):,} rows, one for each of the shards")
        similarity = by_embeddings(*sides)
    files = arguments.hard_samples, index, arguments.out, arguments.url_index
    return from_released(*files, arguments.order, arguments.training_list, similarity).sentences()
