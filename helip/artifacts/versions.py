"""Every artefact says which version of its format it has; this is what becomes of another one.

A format that changes raises its number, and its loader reads the older one or refuses
it with the way to make it anew.
"""

from pathlib import Path
from typing import Any

from helip.errors import HelipError

NEWER = "it comes from a newer HELIP: update this one, or set paths.artifacts or paths.index to another folder"


def check_version(found: Any, known: int, what: str, folder: Path, again: str) -> None:
    """Accept the known version alone.

    Args:
        found: what the artefact says, of any type.
        what: the artefact in words, for the message.
        again: how an older one is made anew.

    Raises:
        HelipError: another version; a newer one is not to be deleted, for whoever wrote it can still read it.
    """
    if isinstance(found, bool) or found != known:
        newer = isinstance(found, int) and not isinstance(found, bool) and found > known
        advice = f"{NEWER} (nothing needs to be deleted)" if newer else again
        raise HelipError(f"{what} in {folder} has format {found!r}, not {known}: {advice}")
