# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
"""The keys of samples on the disk, and what they tell of an older index.

Legend: N rows, S shards.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from helip.artifacts.members import IMAGE, TEXT


def as_format_2(starts: np.ndarray, size: np.ndarray, keys: pa.Array) -> bool:
    """Whether the rows of format 1 (N,) are surely those of today: each has image and .txt, and a key of its own."""
    if not (size[:, [IMAGE, TEXT]] >= 0).all():
        return False  # a .text or .caption may have been passed over
    shard = np.repeat(np.arange(len(starts) - 1), np.diff(starts))  # (N,)
    code = keys.dictionary_encode().indices.to_numpy()
    again = (code[1:] == code[:-1]) & (shard[1:] == shard[:-1])
    return not again.any() and not any(
        name.startswith("__") for name in keys.dictionary_encode().dictionary.to_pylist()
    )


def open_keys(path: Path) -> pa.Array:
    """(N,) strings, memory-mapped. Raises ValueError or OSError where reading a damaged file would end the process."""
    keys = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["key"].combine_chunks()
    keys.validate(full=True)  # measured: 0.05 s for 3 M keys
    if keys.type not in (pa.string(), pa.large_string()) or keys.null_count:
        raise ValueError(f"{path.name} is damaged: it holds no strings")
    return keys
