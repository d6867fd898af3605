"""A CSV or TSV list as open_clip trains on it as shards: helip train dataset=folder dataset.path=OUT"""

import argparse
from pathlib import Path

from helip.formats.options import separator
from helip.formats.pack import csv_to_shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("training_list", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--separator", type=separator, default="\t", help="--csv-separator (default: a tab)")
    parser.add_argument("--image-column", default="filepath", help="--csv-img-key (default: filepath)")
    parser.add_argument("--caption-column", default="title", help="--csv-caption-key (default: title)")
    parser.add_argument("--root", type=Path, default=Path(), help="of relative paths (default: the current folder)")
    parser.add_argument("--per-shard", type=int, default=10_000)
    parser.add_argument("--on-error", choices=("fail", "skip"), default="fail", help="a line that gives no sample")


def run(arguments: argparse.Namespace) -> list[str]:
    options = vars(arguments).copy()
    return csv_to_shards(options.pop("training_list"), options.pop("out"), **options).sentences()
