"""What several commands of `helip convert` ask for."""

import argparse
import sys

from helip.artifacts.shards import ShardIndex


def add_shards(parser: argparse.ArgumentParser) -> None:
    """--shards, for `open_shards`."""
    parser.add_argument(
        "--shards", required=True, help="a folder, a file, or DIR/{00000..00331}.tar, in the order that was mined"
    )


def open_shards(pattern: str) -> ShardIndex:
    """The rows of the shards; what is wrong with some is a warning on standard error."""
    from helip.artifacts.datasets import incomplete, resolve_shards

    index = ShardIndex.build(resolve_shards(pattern))
    for problem in (*index.problems, *incomplete(index)):
        print(f"warning: {problem}", file=sys.stderr)
    return index


def separator(text: str) -> str:
    """One character; `tab` for a tab."""
    return "\t" if text in ("\\t", "tab") else text


def file_name(text: str) -> str:
    """The name of a file, without a folder."""
    if not text.strip(".") or "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names no file: give a name such as cc3m")
    return text
