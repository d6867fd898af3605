"""Messages about artefacts that cannot be read: another format, or damage.

A change of a format raises its number. The loader then reads the older format, or refuses it and tells how to rebuild.
"""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helip.errors import HelipError

NEWER = "it comes from a newer HELIP: update this one, or set paths.artifacts or paths.index to another folder"
MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM)


@contextmanager
def reading(what: str, cure: str) -> Generator[None]:
    """Report damage that the block finds.

    Args:
        what: the artefact and its folder, for the message.
        cure: how to rebuild it, for the message.

    Raises:
        HelipError: the artefact is missing or damaged.
        OSError: an error of the machine, which says nothing about the artefact.
    """
    try:
        yield
    except HelipError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in MACHINE:
            raise
        raise HelipError(f"{what} cannot be read ({error}): {cure}") from error


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
