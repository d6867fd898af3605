"""Arrays on disk: opened without trusting them, made with their bytes reserved."""

import errno
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from helip.errors import HelipError

# What numpy raises on damaged headers, besides OSError and ValueError (each seen in tests/faults/test_flipped.py).
DAMAGED = (EOFError, SyntaxError, TypeError, OverflowError, MemoryError, LookupError, tokenize.TokenError)

MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM)


def says_nothing(error: BaseException) -> bool:
    """Whether an error is the machine's and says nothing of the file that was opened: it is not to be deleted."""
    return isinstance(error, OSError) and error.errno in MACHINE


def open_array(path: Path, mode: Literal["r", "r+"] = "r") -> np.ndarray:
    """Memory-map a .npy file; no pickle is ever read.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no .npy file of plain numbers, or is cut off.
    """
    try:
        array: Any = np.load(path, mmap_mode=mode, allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if not isinstance(array, np.ndarray):  # an .npz archive
        raise ValueError(f"{path.name} is no .npy file")
    return cast(np.ndarray, array)


def read_archive(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """The wanted arrays of a .npz file by name; no pickle is ever read.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if wanted(name)}
    except (*DAMAGED, AttributeError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def new_array(path: Path, dtype: np.dtype | type, shape: Sequence[int]) -> np.memmap:
    """A new .npy file of zeros, mapped for writing, all of its bytes reserved on the disk.

    A map of a file that only pretends to be long ends the whole process (SIGBUS) when the disk is full.

    Raises:
        HelipError: the disk has no room for it.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape))
    with open(path, "r+b") as file:
        reserve(file.fileno(), path)
    return array


def reserve(descriptor: int, path: Path) -> None:
    """Reserve the bytes of an open file. Raises HelipError when the disk has no room for them."""
    size = os.fstat(descriptor).st_size
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        raise HelipError(
            f"there is no room for the {size:,} bytes of {path} ({error.strerror}): free space, or set paths.artifacts "
            "to another disk; the same command goes on"
        ) from error
