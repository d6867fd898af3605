"""The hard pairs of every row: mining writes them, training reads them.

A folder of four .npy files and meta.json. Rows are row numbers of the ShardIndex (or of the arrays that were mined),
int32 to save half the space. A row with fewer than K hard pairs is padded with -1 and zeros.

Legend: N rows, K stored partners of each, hardest first.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from helip.artifacts.arrays import open_array
from helip.artifacts.atomic import atomic_folder, read_json, write_json
from helip.artifacts.reading import check_version, reading
from helip.artifacts.sums import SUMS, write_sums
from helip.errors import HelipError

FORMAT = 1
BLOCK = 1 << 16  # rows of a memory-mapped index read at a time
ARRAYS = {"rows": np.dtype(np.int32)} | dict.fromkeys(("scores", "scores_image", "scores_text"), np.dtype(np.float32))
FILES = (*(f"{name}.npy" for name in ARRAYS), "meta.json", SUMS)


@dataclass(frozen=True)
class HardPairIndex:
    """Hard pairs of each row by descending score, ties by the lower row number.

    Attributes:
        rows: (N, K) int32, -1 where a row has fewer than K hard pairs.
        scores: (N, K) float32, the score that orders them (joint, image or text); 0 at padding.
        scores_image: (N, K) float32 cosine of the two images; 0 at padding.
        scores_text: (N, K) float32 cosine of the two texts; 0 at padding.
        meta: what made the index: `fingerprint`, `settings`, `hash`, `statistics`; `save` adds `format`, `count`,
            `depth` and `complete`.
    """

    rows: np.ndarray
    scores: np.ndarray
    scores_image: np.ndarray
    scores_text: np.ndarray
    meta: dict[str, Any]

    @property
    def depth(self) -> int:
        """K, the stored partners of each row."""
        return self.rows.shape[1]

    def __len__(self) -> int:
        return self.rows.shape[0]

    def topk(self, k: int) -> "HardPairIndex":
        """The first k partners of every row, as views. Raises HelipError unless 1 <= k <= the stored partners."""
        if k < 1:
            raise HelipError(f"topk is {k}: set helip.topk to 1 or more.")
        if k > self.depth:
            raise HelipError(
                f"the hard-pair index stores {self.depth} partners per row, but topk={k} asks for more: "
                f"run `python mine.py search.depth={k}` with the same overrides."
            )
        return replace(self, **{name: getattr(self, name)[:, :k] for name in ARRAYS})

    def counts(self) -> np.ndarray:
        """(N,) number of hard pairs of each row."""
        return live_counts(self.rows)

    def __repr__(self) -> str:
        score = self.meta.get("settings", {}).get("score")
        return f"HardPairIndex({len(self):,} rows, {self.depth} partners each{f', by {score}' if score else ''})"

    def save(self, folder: Path | str, overwrite: bool = False) -> None:
        """Write a new folder; overwrite=True atomically replaces an index. Raises HelipError if it is not empty."""
        folder = Path(folder)
        if not overwrite and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise HelipError(f"{folder} exists already: give another folder, or overwrite=True to replace it")
        with atomic_folder(folder) as temporary:
            for name, dtype in ARRAYS.items():
                np.save(temporary / f"{name}.npy", np.ascontiguousarray(getattr(self, name), dtype=dtype))
            write_meta(temporary, self.meta, len(self), self.depth)

    @classmethod
    def load(cls, folder: Path | str) -> "HardPairIndex":
        """Open a folder as memory maps. Raises HelipError if missing, unfinished, damaged or of another format."""
        folder = Path(folder)
        if not (folder / "meta.json").is_file():
            raise HelipError(
                f"no hard-pair index at {folder} (no meta.json): run `python mine.py`, or name the folder of an index."
            )
        with reading(f"the hard-pair index in {folder}", "mine again."):
            meta: dict[str, Any] = read_json(folder / "meta.json")
            check_version(meta.get("format"), FORMAT, "the hard-pair index", folder, "mine again.")
            if meta.get("complete") is not True or not {"count", "depth"} <= meta.keys():
                raise HelipError(f"the hard-pair index at {folder} is not complete: repeat `python mine.py`.")
            arrays = {name: open_array(folder / f"{name}.npy") for name in ARRAYS}
        shape = (meta["count"], meta["depth"])
        for name, array in arrays.items():
            if array.dtype != ARRAYS[name] or array.shape != shape:
                found, wanted = f"{array.dtype} {array.shape}", f"{ARRAYS[name]} {shape}"
                raise HelipError(f"{folder}/{name}.npy holds {found}, meta.json says {wanted}: mine again.")
        return cls(**arrays, meta=meta)


def live_counts(rows: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """(N,) int64 number of hard pairs of each row, computed in blocks because the index may exceed memory.

    Args:
        rows: (N, K), -1 padded.
        valid: (N,) bool, the rows that count as partners; None: all.
    """
    counts = np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(rows[start : start + BLOCK])
        live = block >= 0
        if valid is not None:
            live &= valid[np.maximum(block, 0)]
        counts[start : start + len(block)] = live.sum(1)
    return counts


def write_meta(folder: Path, meta: dict[str, Any], count: int, depth: int) -> None:
    """Complete an index of `count` rows by `depth` partners: write meta.json and the checksums."""
    write_json(folder / "meta.json", {**meta, "format": FORMAT, "count": count, "depth": depth, "complete": True})
    write_sums(folder, ["meta.json", *(f"{name}.npy" for name in ARRAYS)])
