"""Precomputed embeddings: arrays read in place, or folders of clip-retrieval, reordered to the rows once.

Legend: N rows, d width.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from helip.artifacts.atomic import atomic_folder, digest, file_digest
from helip.artifacts.shards import ShardIndex
from helip.embedding.arrays import file_and_name, open_floats
from helip.embedding.clip_retrieval import EmbeddingFolder, match_rows
from helip.errors import HelipError
from helip.ranks import artefact_lock, barrier, global_rank

QUIET = Console(quiet=True)
PRESENT = "present.npy"  # (N,) bool, rows that have their embeddings


@dataclass(frozen=True)
class Precomputed:
    """Image and text embeddings of any float type, normalised or not.

    Attributes:
        image, text: a .npy or .npz file in row order, or a folder of clip-retrieval.
        store: folder for reordered copies, which keep all values.
    """

    image: Path
    text: Path
    store: Path = field(default=Path("embeddings"), compare=False)
    name = "precomputed"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Digests of the content. Raises HelipError if a file is missing."""
        return {side: _content(side, path) for side, path in self._sides.items()}

    def load(
        self, index: ShardIndex | None = None, wanted: np.ndarray | None = None, console: Console = QUIET
    ) -> tuple[np.ndarray, np.ndarray]:
        """Memory maps of both; rows without an embedding are zeros and not `present`.

        Args:
            index: the rows; None for bare arrays, and for a folder in its own order.
            wanted: (N,) bool, rows that will be mined; None: the valid ones.
            console: for messages.

        Raises:
            HelipError: a file is missing or has no floats (N, d), lengths differ, or a folder does not match.
        """
        paths = dict(self._sides)
        if self._folders:
            made = self._in_row_order(index, wanted, console)
            paths |= {side: made / f"{side}.npy" for side in self._folders}
        image, text = (open_floats(path, side) for side, path in paths.items())
        if len(image) != len(text):
            raise HelipError(
                f"{self.image} has {len(image):,} rows, {self.text} has {len(text):,}: they must be the same pairs"
            )
        return image, text

    def present(self, index: ShardIndex | None = None, wanted: np.ndarray | None = None) -> np.ndarray | bool:
        """(N,) bool, rows with embeddings after `load`; True if the files are in row order and have all."""
        return np.load(self._made(index, wanted) / PRESENT) if self._folders else True

    @property
    def _sides(self) -> dict[str, Path]:
        return {"image": self.image, "text": self.text}

    @cached_property
    def _folders(self) -> dict[str, EmbeddingFolder]:
        return {side: EmbeddingFolder(path, side) for side, path in self._sides.items() if path.is_dir()}

    def _made(self, index: ShardIndex | None, wanted: np.ndarray | None) -> Path:
        chosen = None if index is None or wanted is None else hashlib.sha256(np.packbits(wanted).tobytes()).hexdigest()
        return self.store / f"{self.name}-{digest([self.identity, index and index.fingerprint, chosen])}"

    def _in_row_order(self, index: ShardIndex | None, wanted: np.ndarray | None, console: Console) -> Path:
        """The folder with reordered copies, made on rank 0."""
        made = self._made(index, wanted)
        with artefact_lock(made, console):
            if global_rank() == 0 and not made.exists():
                entries = self._entries(index, wanted)
                present = np.logical_and.reduce([entry >= 0 for entry in entries.values()])
                with atomic_folder(made) as temporary:
                    for side, folder in self._folders.items():
                        folder.write(temporary / f"{side}.npy", entries[side])
                    np.save(temporary / PRESENT, present)
                if index is not None:
                    asked = index.valid if wanted is None else wanted
                    lost = int((asked & ~present).sum())
                    left_out = f"; {lost:,} have no embedding and are left out" if lost else ""
                    console.print(f"embeddings: {int((asked & present).sum()):,} rows were matched{left_out}")
            barrier()
        return made

    def _entries(self, index: ShardIndex | None, wanted: np.ndarray | None) -> dict[str, np.ndarray]:
        """By side, (N,) int64 entry of each row, -1 for none."""
        folders = list(self._folders.values())
        together = len({folder.folder for folder in folders}) == 1
        if together and len({tuple(folder.ends) for folder in folders}) > 1:
            raise HelipError(f"the image and text parts in {self.image} differ in length: they must be the same pairs")
        if index is None and not together:
            raise HelipError(
                f"{self.image} and {self.text} are two folders, and dataset=none has no rows to match them by: "
                "give one folder, or set dataset to the embedded one"
            )
        if index is None:
            return {side: np.arange(folder.ends[-1]) for side, folder in self._folders.items()}
        asked = index.valid if wanted is None else wanted
        matched = {folder.folder: match_rows(folder, index, asked) for folder in folders[: 1 if together else None]}
        return {side: matched[folder.folder] for side, folder in self._folders.items()}


def _content(side: str, path: Path) -> str:
    if path.is_dir():
        return f"folder:{digest([file_digest(file) for file in EmbeddingFolder(path, side).files], 16)}"
    file, name = file_and_name(path)
    if not file.is_file():
        open_floats(path, side)  # raises the message
    return f"{file_digest(file)}:{name}" if name else file_digest(file)
