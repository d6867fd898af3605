"""Shards as a CSV list and extracted images: what wbs_to_csv.py meant to do."""

import argparse
from pathlib import Path

from helip.formats.options import add_shards, file_name, open_shards, separator
from helip.formats.training_list import shards_to_csv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path)
    add_shards(parser)
    parser.add_argument("--name", type=file_name, required=True, help="of the list: OUT/NAME.csv")
    parser.add_argument("--separator", type=separator, default=",", help="one character, or tab (default: a comma)")
    parser.add_argument("--caption", default="txt", help="the .txt member, or a field of the .json member")


def run(arguments: argparse.Namespace) -> list[str]:
    asked = arguments
    return shards_to_csv(open_shards(asked.shards), asked.out, asked.name, asked.separator, asked.caption)
