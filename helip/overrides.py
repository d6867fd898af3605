"""Overrides as people type them: shard ranges in braces, which a shell spreads and Hydra takes for a dictionary."""

import re
from collections.abc import Sequence

from helip.errors import HelipError

RANGE = re.compile(r"[^\[\],'\"]*\{\d+\.\.\d+\}[^\[\],'\"]*")


def readable(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command line for Hydra, those with a range such as {00000..00331} in quotes.

    Raises:
        HelipError: a key was given several shards, as a shell makes of braces without quotes; Hydra takes the last one.
    """
    shards: dict[str, list[str]] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if value.endswith(".tar"):
            shards.setdefault(key, []).append(value)
    for key, values in shards.items():
        if len(set(values)) > 1:
            raise HelipError(
                f"{key} is given {len(values)} times, from {values[0]} to {values[-1]}, as a shell makes of braces: "
                f"put them in quotes, '{key}=FOLDER/{{00000..00331}}.tar', or name the folder"
            )
    return [_quoted(argument) for argument in arguments]


def _quoted(argument: str) -> str:
    """Each element of a value that has a range in it, unless somebody has set quotes."""
    key, equals, value = argument.partition("=")
    if not equals or "'" in value or '"' in value:
        return argument
    return f"{key}=" + RANGE.sub(r'"\g<0>"', value)
