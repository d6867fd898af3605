"""Arrays in .npy and .npz files, memory-mapped if possible, without loading pickles.

Legend: N rows, d width.
"""

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from helip.artifacts.arrays import DAMAGED, open_array
from helip.errors import HelipError

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature ... length of the name, length of the extra field (APPNOTE 4.3.7)


def file_and_name(path: Path) -> tuple[Path, str]:
    """`FILE.npz:NAME` as file and name of an array; the name of other paths is empty."""
    head, colon, name = str(path).rpartition(".npz:")
    return (Path(f"{head}.npz"), name) if colon else (path, "")


def holds_both(path: Path) -> bool:
    """Whether a path can hold images and texts: a folder, or a .npz file without the name of an array."""
    return path.is_dir() or path.suffix == ".npz"


def open_floats(path: Path, side: str) -> np.ndarray:
    """(N, d) floats of one side.

    Args:
        path: a .npy file; a .npz file with an array named `side` or with a single array; or `FILE.npz:NAME`.
        side: "image" or "text".

    Raises:
        HelipError: the file or array is missing, or does not hold floats (N, d).
    """
    file, name = file_and_name(path)
    if not file.is_file():
        raise HelipError(f"there are no embeddings at {file}: encoders.{side} is a .npy or .npz file, or a folder")
    try:
        array = _open_npz(file, name, side) if file.suffix == ".npz" else open_array(file)
    except HelipError:
        raise
    except (OSError, ValueError, *DAMAGED, zipfile.BadZipFile, zlib.error) as error:
        raise HelipError(f"{path} cannot be read as a {file.suffix or '.npy'} file ({error})") from error
    if array.ndim != 2 or array.dtype.kind != "f":
        raise HelipError(f"{path} must hold floats of shape (N, d): save it with numpy.save")
    return array


def _open_npz(file: Path, name: str, side: str) -> np.ndarray:
    with zipfile.ZipFile(file) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        wanted = name or (side if side in names else names[0] if len(names) == 1 else "")
        if wanted not in names:
            raise HelipError(
                f"{file} holds {', '.join(names) or 'nothing'}: name one of them, encoders.{side}='{file}:NAME'"
            )
        member = archive.getinfo(f"{wanted}.npy")
    if member.compress_type != zipfile.ZIP_STORED:  # numpy.savez_compressed cannot be mapped
        with np.load(file, allow_pickle=False) as arrays:
            return arrays[wanted]
    with open(file, "rb") as stream:
        stream.seek(member.header_offset)
        _, name_length, extra_length = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
        stream.seek(name_length + extra_length, 1)
        version = np.lib.format.read_magic(stream)
        read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        if version[0] not in read_header:
            raise ValueError(f"array format {version}")
        shape, fortran, dtype = read_header[version[0]](stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never loaded")
        return np.memmap(file, dtype, "r", stream.tell(), shape, "F" if fortran else "C")
