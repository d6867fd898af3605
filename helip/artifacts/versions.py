"""Versions of the formats of artefacts.

A change of format raises its number; the loader then reads the older format, or refuses it and says how to rebuild it.
"""

from pathlib import Path
from typing import Any

from helip.errors import HelipError

NEWER = "it comes from a newer HELIP: update this one, or set paths.artifacts or paths.index to another folder"


def check_version(found: Any, known: int, what: str, folder: Path, again: str) -> None:
    """Accept only the known version.

    Args:
        found: the version in the artefact, of any type.
        what: the artefact, for the message.
        again: how to rebuild an older one, for the message.

    Raises:
        HelipError: another version. The message does not advise to delete a newer one: its program can still read it.
    """
    if isinstance(found, bool) or found != known:
        newer = isinstance(found, int) and not isinstance(found, bool) and found > known
        advice = f"{NEWER} (nothing needs to be deleted)" if newer else again
        raise HelipError(f"{what} in {folder} has format {found!r}, not {known}: {advice}")
