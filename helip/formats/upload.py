"""Uploads a finished artefact folder (embeddings, hard pairs) to s3:// or another address that fsspec writes to.

SHA256SUMS is uploaded first and identifies the artefact. The metadata file is uploaded last: without it no program
reads the folder as an artefact. The same command uploads what is missing. Any tool that copies folders downloads it.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helip.artifacts.sums import SUMS, check_sums
from helip.errors import HelipError
from helip.secrets import without_credentials
from helip.storage.base import scheme_of

METADATA = ("meta.json", "shards.json")  # uploaded last


def upload(folder: Path, address: str) -> list[str]:
    """Upload the files that are missing at the address. Returns a sentence.

    Raises:
        HelipError: the folder is no finished artefact, another artefact lies at the address, or the upload fails.
    """
    names, shown = _files(folder), without_credentials(address)
    sizes = {name: (folder / name).stat().st_size for name in names}
    try:
        system, place = _opened(address)
        there = _sizes(system, place)
        if there and (SUMS not in there or system.cat_file(f"{place}/{SUMS}") != (folder / SUMS).read_bytes()):
            raise HelipError(f"{shown} holds something else ({sorted(there)[0]}): name a new folder there")
        missing = [name for name in names if there.get(name) != sizes[name]]
        for name in missing:
            system.put_file(str(folder / name), f"{place}/{name}")
    except HelipError:
        raise
    except Exception as error:  # each file system raises its own errors
        reason = without_credentials(f"{type(error).__name__}: {error}").splitlines()[0][:200]
        raise HelipError(
            f"{folder} cannot be uploaded to {shown} ({reason}): check the address, the credentials and the network, "
            "then repeat the command"
        ) from error
    if not missing:
        return [f"{shown} has all of {folder} already"]
    return [f"{len(missing)} of {len(names)} files, {sum(sizes[name] for name in missing):,} bytes, are now in {shown}"]


def _files(folder: Path) -> list[str]:
    """The files of an artefact in the order of the upload. Raises HelipError if it is unfinished or damaged."""
    problems = check_sums(folder)
    if problems is None:
        raise HelipError(
            f"{folder} is no finished artefact (it has no {SUMS}): name a folder of embeddings or hard pairs"
        )
    if problems:
        raise HelipError(f"{problems[0]}: delete the folder, and make the artefact again")
    listed = (line.split("  ", 1)[1] for line in (folder / SUMS).read_text(encoding="utf-8").splitlines())
    return [SUMS, *sorted(listed, key=lambda name: (name in METADATA, name))]


def _opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise HelipError(f"{address} is written by fsspec: pip install 'helip[remote]'") from error
    options: Mapping[str, Any] = {"auto_mkdir": True} if scheme_of(address) == "file" else {}
    system, place = url_to_fs(address, use_listings_cache=False, **options)
    return system, place.rstrip("/")


def _sizes(system: Any, place: str) -> dict[str, int]:
    """Size of each file in a folder, by name."""
    try:
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in system.ls(place, detail=True)}
    except FileNotFoundError:
        return {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a folder of embeddings or hard pairs below paths.artifacts")
    parser.add_argument("address", help="a new folder: s3://BUCKET/FOLDER, or another address of fsspec")


def run(arguments: argparse.Namespace) -> list[str]:
    return upload(arguments.folder, arguments.address)
