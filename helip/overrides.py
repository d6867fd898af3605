"""Rewrite overrides as people type them into those that Hydra understands.

- Shard ranges in braces are quoted, because Hydra reads braces as a dictionary.
- Open parts are chosen by name: `helip.plan=graph` means `plan=graph`, the file plan/graph.yaml of conf/ or
  --config-dir.
- `model.name=hf:FOLDER` selects model=any, so that the weights come from that name, not from the default model.
"""

import re
from collections.abc import Sequence

from helip.errors import HelipError

RANGE = re.compile(r"[^\[\],'\"]*\{\d+\.\.\d+\}[^\[\],'\"]*")
# Setting of an open part -> the group of its files.
PARTS = {"helip.plan": "plan", "helip.margin": "margin", "helip.schedule": "schedule", "train.loss": "loss"}
OWN_MODEL = re.compile(r"\+?model\.(name=['\"]?(hf|hf-hub|local-dir):|config=(?!null))")
WORDS = re.compile(r"\s*[\w\"'][\w\"'/.-]*(\s*,\s*[\w\"'/.-]+)*\s*|(choice|shuffle)\(.*\)")


def readable(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command line for Hydra: ranges such as {00000..00331} in quotes, open parts as groups.

    Raises:
        HelipError: a key has several shards, because the shell expanded braces; Hydra would take the last one.
    """
    shards: dict[str, list[str]] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if value.endswith(".tar"):
            shards.setdefault(key, []).append(value)
    for key, values in shards.items():
        if len(set(values)) > 1:
            raise HelipError(
                f"{key} is given {len(values)} times, from {values[0]} to {values[-1]}: the shell expanded braces, so "
                f"quote them, '{key}=FOLDER/{{00000..00331}}.tar', or name the folder"
            )
    made = [_quoted(_group(argument)) for argument in arguments]
    own = next((place for place, argument in enumerate(arguments) if OWN_MODEL.match(argument)), None)
    if own is not None and not any(argument.startswith("model=") for argument in arguments):
        made.insert(own, "model=any")  # beside it, because argparse wants all overrides on one side of -m
    return made


def _group(argument: str) -> str:
    """`helip.plan=graph` as `plan=graph`, also with several values; fields such as helip.plan.topk=5 unchanged."""
    key, equals, value = argument.partition("=")
    group = PARTS.get(key.lstrip("+"))
    return f"{group}={value}" if group and equals and value != "null" and WORDS.fullmatch(value) else argument


def _quoted(argument: str) -> str:
    """Quote each element of a value that has a range, unless the value has quotes."""
    key, equals, value = argument.partition("=")
    if not equals or "'" in value or '"' in value:
        return argument
    return f"{key}=" + RANGE.sub(r'"\g<0>"', value)
