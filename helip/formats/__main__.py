"""python -m helip.formats COMMAND: files of other programs, in and out.

Embeddings need no command: encoders=precomputed reads them.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError

Order = Literal["auto", "url", "row"]


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exit status 1 and one sentence on standard error for what a user can mend."""
    options = vars(_parser().parse_args(arguments))
    run: Callable[..., list[str]] = options.pop("run")
    options.pop("command")
    try:
        print("\n".join(run(**options)))
    except HelipError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: {error.strerror or error}{where}: make room, or name another place; the command starts anew")
    except KeyboardInterrupt:
        sys.exit("interrupted: what was begun is removed")


def from_released(
    hard_samples: Path,
    shards: str,
    out: Path,
    url_index: Path | None,
    order: Order,
    training_list: Path | None,
    image: Path | None,
    text: Path | None,
) -> list[str]:
    """The authors' hard pairs as an index: train.py paths.index=OUT"""
    from helip.embedding.arrays import open_floats
    from helip.formats.from_released import from_released as convert
    from helip.formats.kinship import by_embeddings

    if (image is None) != (text is None):
        raise HelipError("--image and --text judge pairs together: give both, or neither")
    index = _shards(shards)
    similarity = None
    if image and text:
        sides = open_floats(image, "image"), open_floats(text, "text")
        if any(len(side) != len(index) for side in sides):
            raise HelipError(f"--image and --text must have {len(index):,} rows, one for each of the shards")
        similarity = by_embeddings(*sides)
    return convert(hard_samples, index, out, url_index, order, training_list, similarity).sentences()


def to_released(index: Path, training_list: Path, out: Path, name: str) -> list[str]:
    """An index as the authors' three files, for a list that shards-to-csv wrote"""
    from helip.formats.to_released import to_released as convert

    return convert(HardPairIndex.load(index), training_list, out, name).sentences()


def shards_to_csv(shards: str, out: Path, name: str, separator: str, caption: str) -> list[str]:
    """Shards as a CSV list and extracted images: what wbs_to_csv.py meant to do"""
    from helip.formats.training_list import shards_to_csv as convert

    return convert(_shards(shards), out, name, separator, caption)


def csv_to_shards(
    training_list: Path,
    out: Path,
    separator: str,
    image_column: str,
    caption_column: str,
    root: Path,
    per_shard: int,
    on_error: str,
) -> list[str]:
    """A CSV or TSV list as open_clip trains on it as shards: train.py dataset=folder dataset.path=OUT"""
    from helip.formats.pack import csv_to_shards as convert

    return convert(training_list, out, separator, image_column, caption_column, root, per_shard, on_error).sentences()


def to_parquet(index: Path, shards: str, out: Path) -> list[str]:
    """An index as a table: rows, keys, urls, and the rows, keys, urls and scores of the partners"""
    from helip.formats.tables import write_pairs

    return [f"{write_pairs(HardPairIndex.load(index), _shards(shards), out):,} rows in {out}"]


def to_sentence_transformers(index: Path, shards: str, out: Path, negatives: int, anchor: str) -> list[str]:
    """An index as n-tuples: anchor, positive, negative_1, ..."""
    from helip.formats.tables import write_tuples

    counts = write_tuples(HardPairIndex.load(index), _shards(shards), out, negatives, anchor)
    left = f"; {counts['left_out']:,} rows have fewer than {negatives} negatives" if counts["left_out"] else ""
    return [f"{counts['written']:,} tuples in {out}{left}"]


def _shards(pattern: str) -> ShardIndex:
    from helip.artifacts.datasets import incomplete, resolve_shards

    index = ShardIndex.build(resolve_shards(pattern))
    for problem in (*index.problems, *incomplete(index)):
        print(f"warning: {problem}", file=sys.stderr)
    return index


def _separator(text: str) -> str:
    return "\t" if text in ("\\t", "tab") else text


def _name(text: str) -> str:
    if not text.strip(".") or "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names no file: give a name such as cc3m")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helip.formats", description="Files of other programs, in and out.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[..., list[str]], *positional: str) -> argparse.ArgumentParser:
        name = run.__name__.replace("_", "-")
        found = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        found.set_defaults(run=run)
        for argument in positional:
            found.add_argument(argument, type=Path)
        return found

    shards = {"required": True, "help": "a folder, a file, or DIR/{00000..00331}.tar, in the order that was mined"}
    one = command(from_released, "hard_samples", "out")
    one.add_argument("--url-index", type=Path, help="NAME_url_index.json")
    one.add_argument("--shards", **shards)
    one.add_argument(
        "--order", choices=("auto", "url", "row"), default="auto", help="what an id is; auto: told from the pairs"
    )
    one.add_argument(
        "--training-list", type=Path, help="with --order row: the list of shards-to-csv, whose lines ids are"
    )
    one.add_argument("--image", type=Path, help=".npy (N, d) in the order of the rows, to judge pairs by")
    one.add_argument("--text", type=Path, help="likewise; without them captions are compared")

    one = command(to_released, "index", "training_list", "out")
    one.add_argument("--name", type=_name, required=True, help="of the dataset: NAME_hard_sample.csv")

    one = command(shards_to_csv, "out")
    one.add_argument("--shards", **shards)
    one.add_argument("--name", type=_name, required=True, help="of the list: OUT/NAME.csv")
    one.add_argument("--separator", type=_separator, default=",", help="one character, or tab (default: a comma)")
    one.add_argument("--caption", default="txt", help="the .txt member, or a field of the .json member")

    one = command(csv_to_shards, "training_list", "out")
    one.add_argument("--separator", type=_separator, default="\t", help="--csv-separator (default: a tab)")
    one.add_argument("--image-column", default="filepath", help="--csv-img-key (default: filepath)")
    one.add_argument("--caption-column", default="title", help="--csv-caption-key (default: title)")
    one.add_argument("--root", type=Path, default=Path(), help="of relative image paths (default: the current folder)")
    one.add_argument("--per-shard", type=int, default=10_000)
    one.add_argument("--on-error", choices=("fail", "skip"), default="fail", help="a line that gives no sample")

    command(to_parquet, "index", "out").add_argument("--shards", **shards)

    one = command(to_sentence_transformers, "index", "out")
    one.add_argument("--shards", **shards)
    one.add_argument("--negatives", type=int, default=5)
    one.add_argument("--anchor", choices=("image", "caption"), default="image")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that what was begun is removed
    main()
