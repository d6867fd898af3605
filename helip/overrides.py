"""Rewrite overrides as people type them into those that Hydra understands.

Shard ranges in braces, which a shell spreads and Hydra takes for a dictionary; open parts by their names:
`helip.plan=graph` chooses the file plan/graph.yaml, of ours or of --config-dir, as `plan=graph` does; and models by a
name that says where they are: `model.name=hf:FOLDER` brings its own weights, not those of the default model.
"""

import re
from collections.abc import Sequence

from helip.errors import HelipError

RANGE = re.compile(r"[^\[\],'\"]*\{\d+\.\.\d+\}[^\[\],'\"]*")
# Where an open part stands in the configuration -> the group of files that it is chosen from.
PARTS = {"helip.plan": "plan", "helip.margin": "margin", "helip.schedule": "schedule", "train.loss": "loss"}
OWN_MODEL = re.compile(r"\+?model\.(name=['\"]?(hf|hf-hub|local-dir):|config=(?!null))")
WORDS = re.compile(r"\s*[\w\"'][\w\"'/.-]*(\s*,\s*[\w\"'/.-]+)*\s*|(choice|shuffle)\(.*\)")


def readable(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command line for Hydra: ranges such as {00000..00331} in quotes, parts as their groups.

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
    chosen = any(argument.startswith("model=") for argument in arguments)
    own = [] if chosen or not any(OWN_MODEL.match(argument) for argument in arguments) else ["model=any"]
    return [*own, *(_quoted(_group(argument)) for argument in arguments)]


def _group(argument: str) -> str:
    """`helip.plan=graph` as `plan=graph`, several words of a multirun too; a field, helip.plan.topk=5, as it stands."""
    key, equals, value = argument.partition("=")
    group = PARTS.get(key.lstrip("+"))
    return f"{group}={value}" if group and equals and value != "null" and WORDS.fullmatch(value) else argument


def _quoted(argument: str) -> str:
    """Each element of a value that has a range in it, unless somebody has set quotes."""
    key, equals, value = argument.partition("=")
    if not equals or "'" in value or '"' in value:
        return argument
    return f"{key}=" + RANGE.sub(r'"\g<0>"', value)
