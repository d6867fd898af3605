"""The run folder: what ran, with which versions and settings, and what came out."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import atomic_file, write_json

PACKAGES = ("torch", "pytorch-lightning", "open_clip_torch", "hydra-core", "webdataset", "faiss-cpu", "numpy", "pillow")
SECRET = ("key", "token", "secret", "password")


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


def write_run(folder: Path, config: dict[str, Any]) -> None:
    """config.json (resolved) and provenance.json, before anything runs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", without_secrets(config))
    write_json(folder / "provenance.json", provenance())


def without_secrets(config: Any) -> Any:
    """The configuration with every value whose name looks like a secret replaced."""
    if isinstance(config, dict):
        return {
            name: "***" if value and any(word in name.lower() for word in SECRET) else without_secrets(value)
            for name, value in config.items()
        }
    return [without_secrets(value) for value in config] if isinstance(config, list) else config


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
