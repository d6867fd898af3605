"""Writes that are either there in full or not there at all, and the digests that name them."""

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

    Raises:
        HelipError: `path` holds what the new folder does not, as `refuse_foreign`.
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
    """Before a folder is replaced whole, and before the work for it is begun.

    Raises:
        HelipError: it holds something besides the files `own`, which would be lost, or is a file.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise HelipError(f"{folder} is no folder: name a new or an empty one")
    if others := sorted(entry.name for entry in folder.iterdir() if entry.name not in own):
        raise HelipError(
            f"{folder} holds {others[0]}, which is no part of what would replace the folder: name a new or an empty one"
        )


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """What write_json wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """What write_json writes."""
    return json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"


def clear_stale(path: Path) -> None:
    """Remove what writers of `path` that were killed left beside it; only for who holds the lock of `path`."""
    left = re.compile(re.escape(f".{path.name}.") + r"\d+\.(tmp|old)")  # not those of `path`.NAME
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
    """As file_digest, or for a folder a digest of the names and contents of all that it holds."""
    if path.is_file():
        return file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return f"folder:{digest([[str(file.relative_to(path)), file_digest(file)] for file in files], 16)}"
