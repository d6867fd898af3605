"""The run folder: what ran, with which versions and settings, and what came out."""

import json
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import atomic_file, write_json

PACKAGES = ("torch", "pytorch-lightning", "open_clip_torch", "hydra-core", "webdataset", "faiss-cpu", "numpy", "pillow")
SECRET = re.compile(
    r"(?:^|_)(?:api_?keys?|keys?|tokens?|secrets?|credentials?)(?:_|$)|pass(?:word|wd|phrase)", re.IGNORECASE
)
LEAST = 6  # characters: a shorter value in the environment would be found inside innocent words


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
    """The configuration with every value replaced whose name looks like a secret's or that quotes the environment's."""

    def by_name(value: Any) -> Any:
        if isinstance(value, dict):
            return {n: "***" if inner and SECRET.search(str(n)) else by_name(inner) for n, inner in value.items()}
        return [by_name(inner) for inner in value] if isinstance(value, list) else value

    return without_environment(by_name(config))


def without_environment(value: Any) -> Any:
    """A JSON-like value without the secrets of the environment (WANDB_API_KEY, HF_TOKEN), wherever it quotes them."""
    known = {secret for name, secret in os.environ.items() if SECRET.search(name) and len(secret) >= LEAST}

    def hide(inner: Any) -> Any:
        if isinstance(inner, str):
            for secret in sorted(known, key=len, reverse=True):
                inner = inner.replace(secret, "***")
            return inner
        if isinstance(inner, dict):
            return {name: hide(one) for name, one in inner.items()}
        return [hide(one) for one in inner] if isinstance(inner, list | tuple) else inner

    return hide(value) if known else value


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
