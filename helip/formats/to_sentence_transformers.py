"""An index as n-tuples: anchor, positive, negative_1, ..."""

import argparse
from pathlib import Path

from helip.artifacts.hard_pairs import HardPairIndex
from helip.formats.options import add_shards, open_shards
from helip.formats.tables import write_tuples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", type=Path)
    parser.add_argument("out", type=Path)
    add_shards(parser)
    parser.add_argument("--negatives", type=int, default=5)
    parser.add_argument("--anchor", choices=("image", "caption"), default="image")


def run(arguments: argparse.Namespace) -> list[str]:
    index, shards = HardPairIndex.load(arguments.index), open_shards(arguments.shards)
    counts = write_tuples(index, shards, arguments.out, arguments.negatives, arguments.anchor)
    left = f"; {counts['left_out']:,} rows have fewer than {arguments.negatives} negatives"
    return [f"{counts['written']:,} tuples in {arguments.out}{left if counts['left_out'] else ''}"]
