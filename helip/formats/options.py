"""What several commands of `helip convert` ask for."""

import argparse
import sys
from pathlib import Path

from helip.artifacts.shards import ShardIndex
from helip.models.clip import Clip, ModelSpec, create_clip


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


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """A run or checkpoint and its model, for `open_checkpoint`."""
    parser.add_argument("run", type=Path, help="a run folder (its final weights), or a checkpoint")
    parser.add_argument("--model", default="emoji_tiny", help="open_clip's name, for weights that do not say it")


def open_checkpoint(arguments: argparse.Namespace) -> Clip:
    """The model of `run` with its weights."""
    from helip.training.trained import checkpoint_model

    return create_clip(checkpoint_model(arguments.run, ModelSpec(arguments.model, None)))


def separator(text: str) -> str:
    """One character; `tab` for a tab."""
    return "\t" if text in ("\\t", "tab") else text


def file_name(text: str) -> str:
    """The name of a file, without a folder."""
    if not text.strip(".") or "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names no file: give a name such as cc3m")
    return text
