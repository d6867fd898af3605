"""An index as a table: row, key and url, and the rows, keys, urls and scores of the partners."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, url_of
from helip.formats.options import add_shards, open_shards
from helip.formats.tables import same_shards, write_table

SCORES = ("scores", "scores_image", "scores_text")
PAIRS = pa.schema(
    [("row", pa.int64()), ("key", pa.large_string()), ("url", pa.large_string())]
    + [("partner_rows", pa.list_(pa.int32())), ("partner_keys", pa.list_(pa.large_string()))]
    + [("partner_urls", pa.list_(pa.large_string()))]
    + [(name, pa.list_(pa.float32())) for name in SCORES]
)


def write_pairs(index: HardPairIndex, shards: ShardIndex, path: Path) -> int:
    """Write a line for each row with hard pairs. Returns their number. Raises HelipError for other shards."""
    same_shards(index, shards)
    reader = SampleReader(shards)
    keys = shards.keys

    def lines() -> Iterator[dict[str, Any]]:
        for row in range(len(index)):
            partners = np.asarray(index.rows[row])
            live = np.flatnonzero(partners >= 0)
            if not len(live):
                continue
            found = partners[live].tolist()
            line = {"row": row, "key": keys[row].as_py(), "url": url_of(reader, row), "partner_rows": found}
            line["partner_keys"] = [keys[partner].as_py() for partner in found]
            line["partner_urls"] = [url_of(reader, partner) for partner in found]
            for name in SCORES:
                values = np.asarray(getattr(index, name)[row])[live].tolist()
                line[name] = [None if value != value else value for value in values]
            yield line

    return write_table(path, PAIRS, lines())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", type=Path)
    parser.add_argument("out", type=Path)
    add_shards(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    count = write_pairs(HardPairIndex.load(arguments.index), open_shards(arguments.shards), arguments.out)
    return [f"{count:,} rows in {arguments.out}"]
