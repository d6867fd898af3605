"""The authors' hard pairs as an index: helip train paths.index=OUT

Ids become urls, and urls become rows.

Fault 1 of the released scripts: ids are numbered in the order in which a 128-worker loader reads the urls, but training
looks them up by line number in a CSV in shard order. Pairs read by url are right; a file whose ids are line numbers is
right when read by row. If the two orders differ, a test on the pairs decides how to read them.

Legend: N rows, K listed partners, T listed targets.
"""

import argparse
from collections.abc import Iterator
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
from helip.formats.kinship import SURE, Similarity, by_captions, by_embeddings, kinship
from helip.formats.options import add_shards, new_folder, open_shards
from helip.formats.released_files import read_hard_samples, read_url_index
from helip.formats.shards_to_csv import read_list

Order = Literal["auto", "url", "row"]
SAMPLE = 2000  # pairs that are tested
SHOWN = 3  # examples of entries that cannot be mapped


@dataclass
class Report:
    """Number of entries by outcome.

    Attributes:
        agree: share of the mapped ids that equal their row number; 1 if the two orders are the same.
    """

    targets: int = 0
    pairs: int = 0
    urls_not_in_shards: int = 0
    rows_not_in_urls: int = 0
    rows_without_url: int = 0
    rows_of_repeated_url: int = 0
    targets_without_row: int = 0
    targets_repeated: int = 0
    partners_without_row: int = 0
    partners_of_themselves: int = 0
    partners_repeated: int = 0
    agree: float = 1.0
    examples: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """One line for each count that is not 0."""
        lines = [f"{self.targets:,} targets with {self.pairs:,} hard pairs were mapped to rows"]
        for count, what in (
            (self.urls_not_in_shards, "urls of the index are not in these shards"),
            (self.rows_not_in_urls, "rows have a url that the index does not know: they get no hard pairs"),
            (self.rows_without_url, "rows have no url: they get no hard pairs"),
            (self.rows_of_repeated_url, "rows repeat the url of an earlier one, which gets the hard pairs"),
            (self.targets_without_row, "listed targets have no row"),
            (self.targets_repeated, "listed targets come again: the first list counts"),
            (self.partners_without_row, "listed partners have no usable row and are left out"),
            (self.partners_of_themselves, "targets list themselves, which is left out"),
            (self.partners_repeated, "partners are listed twice by their target and count once"),
        ):
            if count:
                lines.append(f"{count:,} {what}")
        if self.agree < 1:
            lines.append(
                f"only {self.agree:.1%} of the ids are the number of their row: training that looks them up by row "
                "pairs unrelated rows; here they were read by url"
            )
        return lines + [f"e.g. {example}" for example in self.examples]


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
        hard_samples: their .csv, or the dictionary as .json.
        folder: a new one, for the index.
        url_index: their .json; not needed with order="row".
        order: what an id is: of a url ("url"), the number of a usable row ("row": the line of a training list), or
            "auto": of a url, refused where that cannot be told from the number of a row.
        training_list: whose lines the ids are, with order="row"; None: a list of all usable rows.
        similarity: of pairs of rows, to tell; None: the words of their captions.

    Raises:
        HelipError: files that cannot be read or have nothing in common with the shards, ids of an unknown order, or
            something that is in `folder` already.
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
        _check_urls(hard_samples, index, url_index, order == "auto", similarity, row_of_id, report)
    with atomic_folder(folder) as temporary:
        shape = (len(index), width)
        arrays = {name: new_array(temporary / f"{name}.npy", dtype, shape) for name, dtype in ARRAYS.items()}
        arrays["rows"][:] = -1
        for row, partners in _mapped(hard_samples, row_of_id, index.valid, report):
            arrays["rows"][row, : len(partners)] = partners
            for name in ARRAYS.keys() - {"rows"}:
                arrays[name][row, : len(partners)] = np.nan  # unknown
        if not report.targets:
            raise HelipError(f"no target of {hard_samples} has a row in {index.shards[0].parent}: these are other data")
        for array in arrays.values():
            array.flush()
        facts = {name: value for name, value in vars(report).items() if name != "examples"}
        source = file_digest(hard_samples)
        imported = {"from": [path.name for path in (hard_samples, url_index) if path], "order": order, "report": facts}
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
    """(ids,) int64 row of each id, -1 for none; of rows with the same url the first."""
    row_of_id = np.full(max(ids.values(), default=-1) + 1, -1, np.int64)
    reader = SampleReader(index)
    for row in np.flatnonzero(index.valid).tolist():
        url = url_of(reader, row)
        number = ids.get(url) if url is not None else None
        if url is None:
            report.rows_without_url += 1
        elif number is None:
            report.rows_not_in_urls += 1
            if len(report.examples) < SHOWN:
                report.examples.append(f"{index.where(row)} has the url {url[:200]!r}, which has no id")
        elif row_of_id[number] >= 0:
            report.rows_of_repeated_url += 1
        else:
            row_of_id[number] = row
    report.urls_not_in_shards = len(ids) - int((row_of_id >= 0).sum())
    return row_of_id


def _check_urls(
    hard_samples: Path,
    index: ShardIndex,
    url_index: Path,
    unsure: bool,
    similarity: Similarity | None,
    row_of_id: np.ndarray,
    report: Report,
) -> None:
    """Note how many ids are the number of their row. Raises HelipError where ids read by url make no sense.

    Args:
        unsure: whether ids may be of another order, so that the pairs must be kin.
    """
    if not (row_of_id >= 0).any():
        raise HelipError(f"no url of {url_index} is in {index.shards[0].parent}: these are other data")
    by_row = np.flatnonzero(index.valid)
    report.agree = _agreement(row_of_id, by_row)
    if unsure and report.agree < 1:
        measure = similarity or by_captions(SampleReader(index))
        _refuse_unless_by_url(hard_samples, row_of_id, by_row, measure, report)


def _agreement(row_of_id: np.ndarray, by_row: np.ndarray) -> float:
    """Share of the ids with a row whose row is also that of the line of a training list, `by_row`, of that number."""
    ids = np.flatnonzero(row_of_id >= 0)
    lines = np.where(ids < len(by_row), by_row[np.minimum(ids, len(by_row) - 1)], -1)
    return float((row_of_id[ids] == lines).mean())


def _refuse_unless_by_url(
    hard_samples: Path, by_url: np.ndarray, by_row: np.ndarray, similarity: Similarity, report: Report
) -> None:
    """Raises HelipError unless the pairs, read by url, are kin, and more so than read by row."""
    pairs = _sample(hard_samples)
    found = {}
    for name, row_of_id in (("url", by_url), ("row", by_row)):
        rows = np.where(pairs < len(row_of_id), row_of_id[np.minimum(pairs, len(row_of_id) - 1)], -1)
        rows = rows[(rows >= 0).all(1) & (rows[:, 0] != rows[:, 1])]
        found[name] = kinship(rows[:, 0], rows[:, 1], similarity)
    if found["url"] > SURE and found["url"] >= found["row"]:
        return
    disagree = (
        f"the ids of {hard_samples.name} are in another order than the rows ({report.agree:.1%} of the ids of the url "
        "index are the number of their row)"
    )
    if found["row"] > SURE:
        raise HelipError(
            f"{disagree}, and they are not the url index's: read by url the listed pairs have less in common than "
            "read by row; say --order row if the training list was written in the order of these shards"
        )
    raise HelipError(
        f"{disagree}, and the listed pairs have no more in common than random ones, whether ids are read by url or by "
        "row: these files do not belong to these shards, or captions cannot tell: give embeddings to judge by "
        "(--image, --text); --order url or --order row takes the ids unseen"
    )


def _sample(hard_samples: Path) -> np.ndarray:
    """(SAMPLE or fewer, 2) ids of targets with their first partners, from all over the file."""
    generator, kept = np.random.default_rng(0), []
    for number, (target, partners) in enumerate(read_hard_samples(hard_samples)):
        first = next((partner for partner in partners if partner != target), None)
        if first is None:
            continue
        if len(kept) < SAMPLE:
            kept.append((target, first))
        elif (place := int(generator.integers(number + 1))) < SAMPLE:
            kept[place] = (target, first)
    return np.array(kept, np.int64).reshape(-1, 2)


def _mapped(
    hard_samples: Path, row_of_id: np.ndarray, valid: np.ndarray, report: Report
) -> Iterator[tuple[int, np.ndarray]]:
    """Row of each target, with the rows of its partners, in the listed order."""
    done = np.zeros(len(valid), bool)
    for target, partners in read_hard_samples(hard_samples):
        row = int(row_of_id[target]) if target < len(row_of_id) else -1
        if row < 0 or done[row]:
            report.targets_without_row += row < 0
            report.targets_repeated += row >= 0
            continue
        done[row] = True
        ids = np.array(partners, np.int64)
        rows = np.where(ids < len(row_of_id), row_of_id[np.minimum(ids, len(row_of_id) - 1)], -1)
        usable = (rows >= 0) & valid[np.maximum(rows, 0)]
        report.partners_without_row += int((~usable).sum())
        report.partners_of_themselves += int((rows[usable] == row).sum())
        others = rows[usable & (rows != row)]
        unique = others[np.sort(np.unique(others, return_index=True)[1])]
        report.partners_repeated += len(others) - len(unique)
        report.targets += 1
        report.pairs += len(unique)
        yield row, unique


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hard_samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url-index", type=Path, help="NAME_url_index.json")
    add_shards(parser)
    parser.add_argument(
        "--order", choices=("auto", "url", "row"), default="auto", help="what an id is; auto: told from the pairs"
    )
    parser.add_argument(
        "--training-list", type=Path, help="with --order row: the list of shards-to-csv, whose lines ids are"
    )
    parser.add_argument("--image", type=Path, help=".npy (N, d) in the order of the rows, to judge pairs by")
    parser.add_argument("--text", type=Path, help="likewise; without them captions are compared")


def run(arguments: argparse.Namespace) -> list[str]:
    asked = arguments
    if (asked.image is None) != (asked.text is None):
        raise HelipError("--image and --text judge pairs together: give both, or neither")
    index = open_shards(asked.shards)
    similarity = None
    if asked.image is not None:
        sides = open_floats(asked.image, "image"), open_floats(asked.text, "text")
        if any(len(side) != len(index) for side in sides):
            raise HelipError(f"--image and --text must have {len(index):,} rows, one for each of the shards")
        similarity = by_embeddings(*sides)
    report = from_released(
        asked.hard_samples, index, asked.out, asked.url_index, asked.order, asked.training_list, similarity
    )
    return report.sentences()
