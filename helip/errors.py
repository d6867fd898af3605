"""The exception whose message users read, and parts of its messages."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SETTING = re.compile(r"\b(?:helip|search|data)\.(\w+)")


class HelipError(ValueError):
    """One sentence that says what is wrong, where, and what to do.

    The command line prints the message alone and exits with status 1; inside a program it is an ordinary ValueError.
    """


def nearest(name: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """`, did you mean ...?` for the message about an unknown name; empty if no known name is near."""
    close = difflib.get_close_matches(name, list(known), 1, cutoff)
    return f", did you mean {close[0]!r}?" if close else ""


def of_others(setting: str, program: str, others: Iterable[str]) -> str:
    """The message about a setting that a program lacks and others have."""
    return f"{program}.py has no setting {setting!r}: it belongs to {' and '.join(f'{other}.py' for other in others)}"


@contextmanager
def in_arguments(**renamed: str) -> Iterator[None]:
    """Name the arguments of a Python function, not settings of the command line, in the messages of the block.

    Args:
        renamed: argument by setting, where their names differ: depth="k" turns `search.depth` into `k`.
    """
    try:
        yield
    except HelipError as error:
        raise HelipError(SETTING.sub(lambda found: renamed.get(found[1], found[1]), str(error))) from error
