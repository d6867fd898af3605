"""Arguments that several commands of `helip convert` share."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from helip.artifacts.shards import ShardIndex
from helip.environment import cores
from helip.errors import HelipError

if TYPE_CHECKING:  # processes that write shards need no model
    from helip.models.clip import Clip


def add_shards(parser: argparse.ArgumentParser) -> None:
    """--shards, for `open_shards`."""
    parser.add_argument(
        "--shards",
        required=True,
        help="a folder, a file, or DIR/{00000..00331}.tar, in the order in which they were mined",
    )


def open_shards(pattern: str) -> ShardIndex:
    """The index of the shards; problems are printed as warnings on standard error."""
    from helip.artifacts.datasets import incomplete

    index = ShardIndex.build(pattern)
    for problem in (*index.problems, *incomplete(index)):
        print(f"warning: {problem}", file=sys.stderr)
    return index


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The run or checkpoint and --model, for `open_checkpoint`."""
    parser.add_argument("run", type=Path, help="a run folder (its final weights), or a checkpoint")
    parser.add_argument("--model", default="emoji_tiny", help="open_clip's name, for weights without a model name")


def open_checkpoint(arguments: argparse.Namespace) -> "Clip":
    """The model with the weights of `run`."""
    from helip.models.clip import ModelSpec, create_clip
    from helip.training.resume import checkpoint_model

    return create_clip(checkpoint_model(arguments.run, ModelSpec(arguments.model, None)))


def add_processes(parser: argparse.ArgumentParser) -> None:
    """--processes."""
    parser.add_argument("--processes", type=int, default=cores(), help=f"default: {cores()}, one for each core")


def progress_console() -> Console:
    """Standard error, for a progress bar and messages beside the result."""
    return Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)


def separator(text: str) -> str:
    """The character that a --separator means; `tab` means a tab."""
    return "\t" if text in ("\\t", "tab") else text


def file_name(text: str) -> str:
    """Accept a file name without a folder."""
    if not text.strip(".") or "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names no file: give a name such as cc3m")
    return text


def new_folder(out: Path) -> Path:
    """The absolute path of a new folder; an empty one may exist. Raises HelipError if it is not empty."""
    target = Path(os.path.abspath(out))  # "." has no name from which a temporary folder could get its own
    if target.is_file() or (target.exists() and any(target.iterdir())):
        raise HelipError(f"{out} is there already: name a new folder, or remove it")
    return target
