# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
"""Samples of a shard whose members do not stand side by side, so that each piece of them became a row."""

import numpy as np
import pyarrow as pa


def scattered(keys: pa.Array, present: np.ndarray, valid: np.ndarray) -> list[int]:
    """The first row of each key of which two rows hold different members: what one lacks, the other has.

    Two samples of one key that each have an image, say, are two samples, whatever else they lack.

    Args:
        keys: (n,) Arrow strings of one shard.
        present: (n, 3) bool, which of image, caption and metadata a row has.
        valid: (n,) bool.
    """
    code = keys.dictionary_encode().indices.to_numpy()  # (n,)
    doubtful = ~valid & (np.bincount(code)[code] > 1)
    if not doubtful.any():
        return []
    mask = present.astype(np.int64) @ np.array([1, 2, 4])  # (n,)
    rows = np.flatnonzero(np.isin(code, code[doubtful]))
    rows = rows[np.argsort(code[rows], kind="stable")]
    found: list[int] = []
    for same in np.split(rows, np.flatnonzero(np.diff(code[rows])) + 1):
        pieces = np.unique(mask[same])
        pieces = pieces[pieces > 0]
        if (pieces[:, None] & pieces[None]).min(initial=1) == 0:
            found.append(int(same.min()))
    return sorted(found)
