"""Folders as clip-retrieval's NumpyWriter writes them, restated from its source."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_folder(
    folder: Path,
    image: np.ndarray,
    text: np.ndarray,
    keys: Sequence[str],
    captions: Sequence[str],
    urls: Sequence[str | None] | None = None,
    parts: int = 1,
) -> Path:
    """Entries in `parts` files; `urls` adds the fields of the .json, as enable_metadata=True does."""
    width = int(math.log10(parts)) + 1
    for side in ("img_emb", "text_emb", "metadata"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    for part, dealt in enumerate(np.array_split(np.arange(len(keys)), parts)):
        entries: list[int] = dealt.tolist()
        number = str(part).zfill(width)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", image[entries])
        np.save(folder / "text_emb" / f"text_emb_{number}.npy", text[entries])
        table: dict[str, list | pa.Array] = {
            "image_path": [keys[e] for e in entries],
            "caption": [captions[e] for e in entries],
        }
        if urls is not None:
            table["key"] = [Path(keys[e]).name for e in entries]
            table["url"] = pa.array([urls[e] for e in entries], pa.string())
        pq.write_table(pa.table(table), folder / "metadata" / f"metadata_{number}.parquet")
    return folder
