"""Arrays on disk: safe opening of untrusted files, and creation with reserved disk space."""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from helip.artifacts.atomic import atomic_file
from helip.errors import HelipError

# Raised by numpy for damaged headers besides OSError and ValueError (each seen in tests/faults).
DAMAGED = (EOFError, SyntaxError, TypeError, OverflowError, MemoryError, LookupError, tokenize.TokenError)


def open_array(path: Path, mode: Literal["r", "r+"] = "r") -> np.ndarray:
    """Memory-map a .npy file without reading pickles.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no .npy file of plain numbers, or is truncated.
    """
    try:
        array: Any = np.load(path, mmap_mode=mode, allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if not isinstance(array, np.ndarray):  # an .npz archive
        raise ValueError(f"{path.name} is no .npy file")
    return cast(np.ndarray, array)


def read_archive(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """The wanted arrays of a .npz file by name, without reading pickles.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if wanted(name)}
    except (*DAMAGED, AttributeError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def write_archive(path: Path, **arrays: np.ndarray) -> None:
    """Write a .npz file of arrays by name, atomically."""
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def new_array(path: Path, dtype: np.dtype | type, shape: Sequence[int]) -> np.memmap:
    """Create a .npy file of zeros, mapped for writing, with its disk space reserved.

    Without the reservation, writing to the map of a sparse file kills the process (SIGBUS) when the disk is full.

    Raises:
        HelipError: the disk has not enough free space.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape))
    with open(path, "r+b") as file:
        reserve(file.fileno(), path)
    return array


def reserve(descriptor: int, path: Path) -> None:
    """Reserve the bytes of an open file. Raises HelipError if the disk has not enough free space."""
    size = os.fstat(descriptor).st_size
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        raise HelipError(
            f"there is no room for the {size:,} bytes of {path} ({error.strerror}): free space, or set paths.artifacts "
            "to another disk, and repeat the command"
        ) from error
