"""An index as a table: rows, keys, urls, and the rows, keys, urls and scores of the partners."""

import argparse
from pathlib import Path

from helip.artifacts.hard_pairs import HardPairIndex
from helip.formats.options import add_shards, open_shards
from helip.formats.tables import write_pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", type=Path)
    parser.add_argument("out", type=Path)
    add_shards(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    count = write_pairs(HardPairIndex.load(arguments.index), open_shards(arguments.shards), arguments.out)
    return [f"{count:,} rows in {arguments.out}"]
