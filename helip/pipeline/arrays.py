"""Embeddings that the user brings, read in place."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from helip.artifacts.atomic import file_digest
from helip.errors import HelipError


@dataclass(frozen=True)
class Precomputed:
    """Two .npy files (N, d_I) and (N, d_T), any float type, normalised or not."""

    image: Path
    text: Path
    name: str = "precomputed"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Their content. Raises HelipError when a file is missing."""
        return {"image": file_digest(_there(self.image)), "text": file_digest(_there(self.text))}

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Memory maps of both. Raises HelipError for a missing file, one without floats (N, d), or unequal lengths."""
        image, text = (self._open(path) for path in (self.image, self.text))
        if len(image) != len(text):
            raise HelipError(
                f"{self.image} has {len(image):,} rows, {self.text} has {len(text):,}: they must be the same pairs"
            )
        return image, text

    @staticmethod
    def _open(path: Path) -> np.ndarray:
        _there(path)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise HelipError(f"{path} cannot be read as a .npy file ({error})") from error
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
            raise HelipError(f"{path} must hold floats of shape (N, d): save it with numpy.save")
        return array


def _there(path: Path) -> Path:
    if not path.is_file():
        raise HelipError(f"there are no embeddings at {path}: encoders.image and encoders.text are .npy files")
    return path
