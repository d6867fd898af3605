"""The exception whose message users read."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

SETTING = re.compile(r"\b(?:helip|search|data)\.(\w+)")


class HelipError(ValueError):
    """One sentence that says what is wrong, where, and what to do.

    The command line prints the message alone and exits with status 1; inside a program it is an ordinary ValueError.
    """


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
