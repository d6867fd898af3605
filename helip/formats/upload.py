"""A finished artefact folder (embeddings, hard pairs) as a whole to s3:// or any other address that fsspec writes to.

SHA256SUMS goes first and says what is being uploaded, the metadata file goes last: without it no program takes the
folder for an artefact. The same command goes on with what is missing. Back again, any tool that copies a folder does.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helip.artifacts.sums import SUMS, check_sums
from helip.errors import HelipError
from helip.secrets import without_credentials
from helip.storage.base import scheme_of

METADATA = ("meta.json", "shards.json")  # without which an artefact is not there


def upload(folder: Path, address: str) -> list[str]:
    """Copy what is not there yet, and say how much it was.

    Raises:
        HelipError: the folder is no finished artefact, another one lies at the address, or it cannot be written to.
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
    except Exception as error:  # each file system has errors of its own
        reason = without_credentials(f"{type(error).__name__}: {error}").splitlines()[0][:200]
        raise HelipError(
            f"{folder} cannot be uploaded to {shown} ({reason}): check the address, the credentials and the network; "
            "the same command goes on"
        ) from error
    if not missing:
        return [f"{shown} has all of {folder} already"]
    return [f"{len(missing)} of {len(names)} files, {sum(sizes[name] for name in missing):,} bytes, are now in {shown}"]


def _files(folder: Path) -> list[str]:
    """Those of an artefact in the order in which they are sent. Raises HelipError when it is not finished and whole."""
    problems = check_sums(folder)
    if problems is None:
        raise HelipError(
            f"{folder} is no finished artefact (it has no {SUMS}): name a folder of embeddings or hard pairs"
        )
    if problems:
        raise HelipError(f"{problems[0]}: delete the folder, and make the artefact again")
    listed = sorted(line.split("  ", 1)[1] for line in (folder / SUMS).read_text(encoding="utf-8").splitlines())
    return [SUMS, *sorted(listed, key=lambda name: name in METADATA)]


def _opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path of the folder there."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise HelipError(f"{address} is written by fsspec: pip install 'helip[remote]'") from error
    options: Mapping[str, Any] = {"auto_mkdir": True} if scheme_of(address) == "file" else {}
    system, place = url_to_fs(address, use_listings_cache=False, **options)
    return system, place.rstrip("/")


def _sizes(system: Any, place: str) -> dict[str, int]:
    """The files at a place by name."""
    try:
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in system.ls(place, detail=True)}
    except FileNotFoundError:
        return {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a folder of embeddings or hard pairs below paths.artifacts")
    parser.add_argument("address", help="a new folder: s3://BUCKET/FOLDER, or another address of fsspec")


def run(arguments: argparse.Namespace) -> list[str]:
    return upload(arguments.folder, arguments.address)
