"""Hard pairs as parquet: with keys, urls and scores for anybody, and as n-tuples for sentence-transformers.

Legend: N rows, K stored partners of each, n negatives.
"""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helip.artifacts.atomic import atomic_file
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, Unreadable
from helip.data.rows import caption_of, url_of
from helip.data.transforms import decode_image
from helip.errors import HelipError
from helip.formats.places import a_file

GROUP = 100  # rows written together: with images of 30 kB 3 MB, and 2 GB is the most that a column of bytes holds
SCORES = ("scores", "scores_image", "scores_text")
PAIRS = pa.schema(
    [("row", pa.int64()), ("key", pa.large_string()), ("url", pa.large_string())]
    + [("partner_rows", pa.list_(pa.int32())), ("partner_keys", pa.list_(pa.large_string()))]
    + [("partner_urls", pa.list_(pa.large_string()))]
    + [(name, pa.list_(pa.float32())) for name in SCORES]
)


def same_shards(index: HardPairIndex, shards: ShardIndex) -> None:
    """Raises HelipError unless the hard pairs were mined on these shards."""
    if index.meta.get("fingerprint") != shards.fingerprint:
        raise HelipError(
            f"the hard pairs were mined on other shards (fingerprint {str(index.meta.get('fingerprint'))[:8]}) than "
            f"those in {shards.shards[0].parent} ({shards.fingerprint[:8]}): name the shards that were mined"
        )


def write_pairs(index: HardPairIndex, shards: ShardIndex, path: Path) -> int:
    """A line for each row that has hard pairs; unknown scores are null. Returns their number.

    Raises:
        HelipError: the index is of other shards.
    """
    same_shards(index, shards)
    reader = SampleReader(shards)
    keys = shards.keys

    def lines() -> Iterator[dict[str, Any]]:
        for row in range(len(index)):
            partners = np.asarray(index.rows[row])
            live = np.flatnonzero(partners >= 0)
            if not len(live):
                continue
            found = partners[live].tolist()
            line = {"row": row, "key": keys[row].as_py(), "url": url_of(reader, row), "partner_rows": found}
            line["partner_keys"] = [keys[partner].as_py() for partner in found]
            line["partner_urls"] = [url_of(reader, partner) for partner in found]
            for name in SCORES:
                values = np.asarray(getattr(index, name)[row])[live].tolist()
                line[name] = [None if value != value else value for value in values]
            yield line

    return _write(path, PAIRS, lines())


def write_tuples(
    index: HardPairIndex, shards: ShardIndex, path: Path, negatives: int = 5, anchor: str = "image"
) -> dict[str, int]:
    """Columns anchor, positive, negative_1 ... negative_n, in the order that sentence-transformers' losses expect.

    The anchor is a row's image and the others are captions: its own, and those of its hardest pairs. Turned round
    (anchor="caption") the anchor is the caption and the others are images. A row is left out if it, or all but n - 1 of
    its hard pairs, cannot be read, or if a negative would equal its positive.

    Args:
        negatives: n, at least 1 and at most K.
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
    written = _write(path, _with_pictures(names, pictures), lines())
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


def _write(path: Path, schema: pa.Schema, lines: Iterator[dict[str, Any]]) -> int:
    """Stream lines into a parquet file. Returns their number."""
    count = 0
    with atomic_file(a_file(path)) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while group := list(islice(lines, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))
            count += len(group)
    return count
