"""helip convert NAME: files of other programs, in and out.

A format is one module: `helip convert to-parquet` runs helip/formats/to_parquet.py, and `helip convert mine.my_format`
a module of your own. Its docstring's first line is what the help says, and it has

    add_arguments(parser)    what follows the name
    run(arguments)           does it, and returns the lines that are printed

Embeddings need no command: encoders=precomputed reads them.
"""

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from helip.errors import HelipError

PACKAGE = "helip.formats"


def main(given: Sequence[str]) -> None:
    """Run one command; exit status 1 and one sentence on standard error for what a user can mend."""
    if not given or given[0] in ("-h", "--help"):
        print(overview())
        return
    try:
        module = find(given[0])
        parser = argparse.ArgumentParser(f"helip convert {given[0]}", description=summary(module))
        module.add_arguments(parser)
        print("\n".join(module.run(parser.parse_args(given[1:]))))
    except HelipError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: {error.strerror or error}{where}: make room, or name another place, and run it again")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on with shards, and starts anew with all else")


def find(name: str) -> Any:
    """The module of a command. Raises HelipError when there is none of that name."""
    dotted = name if "." in name else f"{PACKAGE}.{name.replace('-', '_')}"
    try:
        module = import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{dotted}.".startswith(f"{error.name}."):
            raise
        module = None
    if not is_command(module):
        raise HelipError(f"helip convert knows no {name}: there are {', '.join(names())}, or a module of yours, a.b")
    return module


def is_command(module: Any) -> bool:
    """Whether a module is a format's command."""
    return hasattr(module, "add_arguments") and hasattr(module, "run")


def names() -> list[str]:
    """Of all commands that come with HELIP."""
    found = sorted(module.name for module in pkgutil.iter_modules(import_module(PACKAGE).__path__))
    modules = [name for name in found if not name.startswith("_") and name != Path(__file__).stem]
    return [name.replace("_", "-") for name in modules if is_command(import_module(f"{PACKAGE}.{name}"))]


def summary(module: Any) -> str:
    """The first line of a module's docstring."""
    return (module.__doc__ or "").strip().partition("\n")[0]


def overview() -> str:
    """All commands, a line each."""
    commands = names()
    width = max(len(name) for name in commands) + 2
    lines = [f"  {name:<{width}}{summary(find(name))}" for name in commands]
    head = [
        "usage: helip convert NAME ...",
        "",
        "Files of other programs, in and out; NAME --help says what follows.",
        "",
    ]
    return "\n".join([*head, *lines])
