"""Overrides as people type them: shard ranges in braces, which a shell spreads and Hydra takes for a dictionary."""

import re
from collections.abc import Sequence

from helip.errors import HelipError

RANGE = re.compile(r"([+~]{0,2}[\w./@]+)=([^'\"]*\{\d+\.\.\d+\}[^'\"]*)")


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
    return [f'{match[1]}="{match[2]}"' if (match := RANGE.fullmatch(one)) else one for one in arguments]
