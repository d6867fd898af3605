"""Shared by the exports of hard pairs as parquet."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from helip.artifacts.atomic import atomic_file
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError

GROUP = 100  # rows written together: 3 MB with images of 30 kB; a column of bytes holds at most 2 GB


def same_shards(index: HardPairIndex, shards: ShardIndex) -> None:
    """Raises HelipError unless the hard pairs were mined on these shards."""
    if index.meta.get("fingerprint") != shards.fingerprint:
        raise HelipError(
            f"the hard pairs were mined on other shards (fingerprint {str(index.meta.get('fingerprint'))[:8]}) than "
            f"those in {shards.shards[0].parent} ({shards.fingerprint[:8]}): name the shards that were mined"
        )


def write_table(path: Path, schema: pa.Schema, lines: Iterator[dict[str, Any]]) -> int:
    """Write lines to a parquet file piece by piece. Returns their number. Raises HelipError if `path` is a folder."""
    if path.is_dir():
        raise HelipError(f"{path} is a folder: name a file")
    count = 0
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while group := list(islice(lines, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))
            count += len(group)
    return count
