"""Atomic writes of files and folders, and digests of values, files and folders."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helip.errors import HelipError


@contextmanager
def atomic_file(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path` that takes its name when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """Yield a temporary folder beside `path` that replaces `path` when the block ends without an error.

    Raises HelipError if `path` holds files that the new folder does not have (`refuse_foreign`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        refuse_foreign(path, [entry.name for entry in temporary.iterdir()])
        replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
        if path.exists():
            os.replace(path, replaced)
        os.replace(temporary, path)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_foreign(folder: Path, own: Collection[str]) -> None:
    """Raises HelipError if a folder holds something besides the files `own`, which its replacement would delete."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise HelipError(f"{folder} is a file: name a new or an empty folder")
    if others := sorted(entry.name for entry in folder.iterdir() if entry.name not in own):
        raise HelipError(
            f"{folder} holds {others[0]}, which would be lost if the folder were replaced: name a new or an empty one"
        )


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """The text that write_json writes for a value."""
    return json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"


def clear_stale(path: Path) -> None:
    """Remove temporary files that killed writers left beside `path`. The caller must hold the lock of `path`."""
    left = re.compile(re.escape(f".{path.name}.") + r"\d+\.(tmp|old)")  # does not match `path`.NAME
    for stale in path.parent.iterdir():
        if left.fullmatch(stale.name):
            shutil.rmtree(stale, ignore_errors=True)
            stale.unlink(missing_ok=True)


def digest(value: Any, length: int = 8) -> str:
    """First `length` hexadecimal digits of the SHA-256 of a JSON-like value; independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, as "sha256:<16 hexadecimal digits>"."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def path_digest(path: Path) -> str:
    """The digest of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        return file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return f"folder:{digest([[str(file.relative_to(path)), file_digest(file)] for file in files], 16)}"
