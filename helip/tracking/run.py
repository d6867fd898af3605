"""Records of a run folder: versions, commit, machine and settings."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import write_json
from helip.secrets import without_secrets

PACKAGES = ("torch", "pytorch-lightning", "open_clip_torch", "hydra-core", "webdataset", "faiss-cpu", "numpy", "pillow")


def provenance() -> dict[str, Any]:
    """Versions, commit and machine."""
    return {
        "versions": _versions(),
        "commit": commit(),
        "machine": platform.platform(),
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """The checkout's commit, with "+changes" where files differ from it; "unknown" outside a checkout."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ("git", "-C", str(root), *arguments), capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_run(folder: Path, record: Mapping[str, Any], operations: Sequence[str] = ()) -> None:
    """Write config.json and provenance.json of a run `folder`.

    Args:
        record: the settings of a program; written without secrets.
        operations: names of the settings that change no result; a report of several runs leaves them out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", without_secrets(record))
    write_json(folder / "provenance.json", provenance() | {"operations": list(operations)})
