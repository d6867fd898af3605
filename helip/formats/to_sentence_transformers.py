"""An index as n-tuples: anchor, positive, negative_1, ..."""

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, Unreadable, caption_of
from helip.data.transforms import decode_image
from helip.errors import HelipError
from helip.formats.options import add_shards, open_shards
from helip.formats.tables import same_shards, write_table


def write_tuples(
    index: HardPairIndex, shards: ShardIndex, path: Path, negatives: int = 5, anchor: str = "image"
) -> dict[str, int]:
    """Write the columns anchor, positive, negative_1 ... negative_n, the order of sentence-transformers' losses.

    The anchor is the image of a row, the others are captions: its own, and those of its hardest pairs. With
    anchor="caption" the anchor is the caption, and the others are images. A row is left out if it cannot be read, or if
    fewer than n of its hard pairs can be read and differ from the positive and each other.

    Args:
        negatives: n, 1 to K, the stored partners of a row.
        anchor: "image" or "caption".

    Returns:
        Number of rows that were `written` and `left_out`.

    Raises:
        HelipError: the index is of other shards or has fewer than n partners, or no row has n negatives.
    """
    same_shards(index, shards)
    reader = SampleReader(shards)
    if not 1 <= negatives <= index.depth or anchor not in ("image", "caption"):
        raise HelipError(f"{negatives} negatives of a {anchor}: give 1 to {index.depth}, and image or caption")
    first, other = (_image, caption_of) if anchor == "image" else (caption_of, _image)
    names = ["anchor", "positive", *(f"negative_{n + 1}" for n in range(negatives))]

    def lines() -> Iterator[dict[str, Any]]:
        for row in np.flatnonzero(shards.valid).tolist():
            values = [first(reader, row), other(reader, row)]
            if None not in values:
                partners = (int(partner) for partner in index.rows[row] if partner >= 0)
                distinct = _distinct((other(reader, partner) for partner in partners), values[1])
                values += islice(distinct, negatives)
            if len(values) == len(names):
                yield dict(zip(names, values, strict=True))

    pictures = ["anchor"] if anchor == "image" else names[1:]
    written = write_table(path, _with_pictures(names, pictures), lines())
    if not written:
        raise HelipError(f"no row has {negatives} hard pairs that can be read: ask for fewer, or mine deeper")
    return {"written": written, "left_out": int(shards.valid.sum()) - written}


def _distinct(values: Iterable[Any], positive: Any) -> Iterator[Any]:
    """Readable values that differ from the positive and from each other."""
    seen = [positive]
    for value in values:
        if value is not None and value not in seen:
            seen.append(value)
            yield value


def _image(reader: SampleReader, row: int) -> dict[str, Any] | None:
    """A cell of the `datasets` library's Image column."""
    try:
        data = reader.image_bytes(row)
        decode_image(data)
    except Unreadable:
        return None
    return {"bytes": data, "path": None}


def _with_pictures(names: list[str], pictures: list[str]) -> pa.Schema:
    """The columns, with the metadata from which `datasets` recognises Image columns."""
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # with other types it ignores the metadata
    fields = [(name, cell if name in pictures else pa.string()) for name in names]
    kinds = {name: {"_type": "Image"} if name in pictures else {"dtype": "string", "_type": "Value"} for name in names}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": kinds}})})


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
