"""One folder with the image and text embeddings of a dataset, written row by row and resumed row by row.

Legend: N rows of the ShardIndex, d_I and d_T embedding widths. Values are float32: through float16 the products of two
cosines move by 2e-4 and 14 % of rows tie where 1 % did (measured on EfficientNet + MiniLM embeddings).
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from helip.artifacts.arrays import new_array, open_array, says_nothing
from helip.artifacts.atomic import json_text, write_json
from helip.artifacts.sums import forget_sums, write_sums
from helip.artifacts.versions import check_version
from helip.errors import HelipError

VERSION = 1
PENDING, GOOD, UNREADABLE = 0, 1, 2
ARRAYS = {"image": np.float32, "text": np.float32, "content": np.int64, "state": np.uint8}


class EmbeddingStore:
    """Memory-mapped embeddings; several processes may write disjoint rows.

    Attributes:
        image: (N, d_I) float32, L2-normalised.
        text: (N, d_T) float32, L2-normalised.
        content: (N, 2) int64, non-negative digests of the image's and the caption's bytes: equal digests, equal bytes.
        state: (N,) uint8: pending, good or unreadable. A row's state is written after its embeddings.
        meta: what made it; `complete` is True when no wanted row is pending.
    """

    def __init__(self, folder: Path, mode: Literal["r", "r+"] = "r") -> None:
        """Open a store. Raises HelipError when there is none, or its format is another."""
        self.folder = folder
        try:
            self.meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            check_version(
                self.meta.get("version"), VERSION, "the embeddings", folder, "delete them, mine.py makes new ones"
            )
            self.image, self.text, self.content, self.state = (open_array(folder / f"{n}.npy", mode) for n in ARRAYS)
        except HelipError:
            raise
        except (OSError, ValueError, AttributeError) as error:
            if says_nothing(error):
                raise
            raise HelipError(f"the embeddings in {folder} cannot be read ({error}): delete the folder") from error
        arrays = (self.image, self.text, self.content, self.state)
        kinds = [(array.dtype, array.ndim) for array in arrays]
        if kinds != [(np.dtype(dtype), 1 if name == "state" else 2) for name, dtype in ARRAYS.items()]:
            raise HelipError(f"the embeddings in {folder} are damaged (an array is of another kind): delete the folder")
        if len({len(array) for array in arrays}) != 1 or "complete" not in self.meta:
            raise HelipError(f"the embeddings in {folder} are damaged (their lengths differ): delete the folder")

    @classmethod
    def create(cls, folder: Path, count: int, image_dim: int, text_dim: int, meta: dict[str, Any]) -> "EmbeddingStore":
        """Make an empty store of `count` rows, or open the one that is there for writing more of its rows.

        Raises:
            HelipError: the disk has no room for it.
        """
        if not (folder / "meta.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            shapes = {"image": (count, image_dim), "text": (count, text_dim), "content": (count, 2), "state": (count,)}
            for name, shape in shapes.items():
                new_array(folder / f"{name}.npy", ARRAYS[name], shape)
            write_json(folder / "meta.json", meta | {"version": VERSION, "complete": False})
            return cls(folder, "r+")
        return cls.reopen(folder)

    @classmethod
    def reopen(cls, folder: Path) -> "EmbeddingStore":
        """Open a store for writing more of its rows; until `finish` it is not complete."""
        write_json(folder / "meta.json", cls(folder).meta | {"complete": False})
        forget_sums(folder)
        return cls(folder, "r+")

    @property
    def complete(self) -> bool:
        return bool(self.meta["complete"])

    @property
    def valid(self) -> np.ndarray:
        """(N,) bool, rows that have both embeddings."""
        return np.asarray(self.state) == GOOD

    def pending(self, wanted: np.ndarray) -> np.ndarray:
        """Rows of the mask `wanted` (N,) that are not embedded yet."""
        return np.flatnonzero(wanted & (np.asarray(self.state) == PENDING))

    def unreadable(self, wanted: np.ndarray) -> np.ndarray:
        """Rows of the mask `wanted` (N,) that had no usable image or caption."""
        return np.flatnonzero(wanted & (np.asarray(self.state) == UNREADABLE))

    def content_digest(self, wanted: np.ndarray) -> str:
        """Of the bytes of the good rows of the mask `wanted` (N,): equal digests, equal images and captions."""
        return hashlib.sha256(np.ascontiguousarray(self.content[wanted & self.valid]).tobytes()).hexdigest()[:16]

    def write(self, rows: np.ndarray, image: np.ndarray, text: np.ndarray, content: np.ndarray | None = None) -> None:
        """Store the embeddings of `rows`, and the digests (B, 2) of their bytes where given, then mark them good.

        Raises:
            HelipError: an embedding is not finite.
        """
        finite = np.isfinite(image).all(1) & np.isfinite(text).all(1)
        if not finite.all():
            raise HelipError(
                f"the encoders give no finite embedding for row {int(rows[~finite][0])}: where they run in half "
                "precision take trainer.precision=32-true, else their weights are not finite"
            )
        self.image[rows], self.text[rows] = image, text
        if content is not None:
            self.content[rows] = content
        self.state[rows] = GOOD

    def mark_unreadable(self, rows: np.ndarray) -> None:
        self.state[rows] = UNREADABLE

    def flush(self) -> None:
        """Hand what this process wrote to the file system."""
        for name in ARRAYS:
            getattr(self, name).flush()

    def finish(self, wanted: np.ndarray | None = None) -> None:
        """Flush, take the sums, then say so in meta.json: a store that says complete is complete.

        Args:
            wanted: (N,) bool, rows that must be there; None: all.

        Raises:
            HelipError: one of them is pending.
        """
        self.flush()
        lost = self.pending(np.ones(len(self.state), bool) if wanted is None else wanted)
        if len(lost):
            raise HelipError(
                f"{len(lost):,} rows of the embeddings in {self.folder} were written by no rank, the first is row "
                f"{lost[0]}: the same command goes on; on several machines that folder needs a coherent file system "
                "(docs/install.md)"
            )
        self.meta = self.meta | {"complete": True, "unreadable": int((np.asarray(self.state) == UNREADABLE).sum())}
        write_sums(self.folder, [f"{name}.npy" for name in ARRAYS], {"meta.json": json_text(self.meta)})
        write_json(self.folder / "meta.json", self.meta)
