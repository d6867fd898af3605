"""Check before any work that the rows have the captions that data.caption names."""

from collections import Counter
from contextlib import suppress

import numpy as np

from helip.artifacts.members import TEXT
from helip.artifacts.shards import ShardIndex
from helip.data.reader import CaptionRule, SampleReader, Unreadable
from helip.errors import HelipError, nearest
from helip.storage.base import Address

LOOKED_AT = 1000  # assumption: rows whose .json is read (50 ms); a field that none of them has is misspelt
LOOKED_AT_AFAR = 50  # remote shards: each row costs a request


def look_at_captions(index: ShardIndex, rule: CaptionRule) -> list[str]:
    """Warnings about rows without a source of captions; empty if all rows have all sources.

    The scan has counted the caption files. The .json members of a thousand rows are read, spread evenly.

    Raises:
        HelipError: no row has one of the sources.
    """
    valid, said = np.flatnonzero(index.valid), list[str]()
    fields, rows = _fields(index, rule, valid)
    for source in rule.names:
        if source == "txt":
            looked_at, found = len(valid), int((index.size[valid, TEXT] > 0).sum())
        else:
            looked_at, found = rows, fields[source]
        if not found:
            raise HelipError(_nowhere(source, rule, looked_at, index, fields))
        if found < looked_at:
            which = " looked at" if looked_at < len(valid) else ""
            said.append(f"data.caption: {looked_at - found:,} of {looked_at:,} rows{which} lack {source}")
    return said


def _fields(index: ShardIndex, rule: CaptionRule, valid: np.ndarray) -> tuple[Counter[str], int]:
    """Counts of non-empty .json fields in a sample of rows, and the number of sampled rows."""
    afar = any(isinstance(shard, Address) for shard in index.shards)
    most = LOOKED_AT_AFAR if afar else LOOKED_AT
    if rule.names == ["txt"] and (index.size[valid, TEXT] > 0).any():
        return Counter(), 0
    rows = valid[np.unique(np.linspace(0, len(valid) - 1, most).astype(np.int64))]
    reader, fields = SampleReader(index, rule), Counter[str]()
    for row in rows.tolist():
        with suppress(Unreadable):
            fields.update(name for name, value in reader.metadata(row).items() if value not in (None, "", []))
    return fields, len(rows)


def _nowhere(source: str, rule: CaptionRule, looked_at: int, index: ShardIndex, fields: Counter[str]) -> str:
    known = ["txt"] if (index.size[:, TEXT] > 0).any() else []
    known += [name for name, _ in fields.most_common(20)]
    what = "a caption file (.txt)" if source == "txt" else f"a field {source!r} in its .json"
    return (
        f"data.caption={rule.sources}: none of {looked_at:,} rows looked at has {what}{nearest(source, known, 0.6)}; "
        f"there are {', '.join(known) or 'no captions'}"
    )
