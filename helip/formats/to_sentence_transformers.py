"""An index as n-tuples: anchor, positive, negative_1, ..."""

import argparse
import json
from collections.abc import Callable, Iterator
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
    """Columns anchor, positive, negative_1 ... negative_n, in the order that sentence-transformers' losses expect.

    The anchor is a row's image and the others are captions: its own, and those of its hardest pairs. Turned round
    (anchor="caption") the anchor is the caption and the others are images. A row is left out if it, or all but n - 1 of
    its hard pairs, cannot be read, or if a negative would equal its positive.

    Args:
        negatives: n, at least 1 and at most K, the partners that the index stores of each row.
        anchor: "image" or "caption".

    Returns:
        `written` and `left_out` rows.

    Raises:
        HelipError: the index is of other shards or not as deep, or no row has n negatives.
    """
    same_shards(index, shards)
    top, reader = index.topk(index.depth), SampleReader(shards)
    if not 1 <= negatives <= index.depth or anchor not in ("image", "caption"):
        raise HelipError(f"{negatives} negatives of a {anchor}: give 1 to {index.depth}, and image or caption")
    first, other = (_image, caption_of) if anchor == "image" else (caption_of, _image)
    names = ["anchor", "positive", *(f"negative_{n + 1}" for n in range(negatives))]

    def lines() -> Iterator[dict[str, Any]]:
        for row in np.flatnonzero(shards.valid).tolist():
            values = [first(reader, row), other(reader, row)]
            partners = (int(partner) for partner in top.rows[row] if partner >= 0)
            values += (
                islice(_others(_values(other, reader, partners), values[1]), negatives) if None not in values else []
            )
            if len(values) == len(names) and None not in values:
                yield dict(zip(names, values, strict=True))

    pictures = ["anchor"] if anchor == "image" else names[1:]
    written = write_table(path, _with_pictures(names, pictures), lines())
    if not written:
        raise HelipError(f"no row has {negatives} hard pairs that can be read: ask for fewer, or mine deeper")
    return {"written": written, "left_out": int(shards.valid.sum()) - written}


def _values(read: Callable[[SampleReader, int], Any], reader: SampleReader, rows: Iterator[int]) -> Iterator[Any]:
    return (value for value in (read(reader, row) for row in rows) if value is not None)


def _others(values: Iterator[Any], positive: Any) -> Iterator[Any]:
    """Those whose content is neither the positive's nor that of one before: a repeated negative only counts twice."""
    seen = [positive]
    for value in values:
        if value not in seen:
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
    """The columns, with the note by which `datasets` decodes its Image columns."""
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # exactly its types, or it ignores the note
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
