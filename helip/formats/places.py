"""Where an export goes: looked at before hours of work, and never on top of what is there."""

import os
from pathlib import Path

from helip.errors import HelipError


def new_folder(out: Path) -> Path:
    """The absolute path of a folder that is to be made; an empty one may be there.

    Raises:
        HelipError: something is there already; a folder that is written whole would take its place.
    """
    target = Path(os.path.abspath(out))  # "." has no name, beside which a temporary folder could stand
    if target.is_file() or (target.exists() and any(target.iterdir())):
        raise HelipError(f"{out} is there already: name a new folder, or remove it")
    return target


def a_file(out: Path) -> Path:
    """The path of a file that is to be written, over an older one. Raises HelipError where a folder is."""
    if out.is_dir():
        raise HelipError(f"{out} is a folder: name a file")
    return out
