"""helip convert NAME: import and export of files of other programs.

A format is one module: `helip convert to-parquet` runs helip/formats/to_parquet.py, and `helip convert mine.my_format`
runs your own module. The first line of its docstring is its help text, and it defines

    add_arguments(parser)    declares the arguments after the name
    run(arguments)           runs the command and returns the lines to print

Embeddings need no command: encoders=precomputed reads them.
"""

import argparse
import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from helip.errors import HelipError

PACKAGE = "helip.formats"


def main(given: Sequence[str]) -> None:
    """Run one command. An error that the user can correct exits with status 1 and one sentence on standard error."""
    if not given or given[0] in ("-h", "--help"):
        print(overview())
        return
    try:
        module = find(given[0])
        parser = argparse.ArgumentParser(f"helip convert {given[0]}", description=summary(module.__doc__))
        module.add_arguments(parser)
        print("\n".join(module.run(parser.parse_args(given[1:]))))
    except HelipError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno is None:  # not an error of the disk
            sys.exit(f"error: {error}")
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: {error.strerror}{where}: free some space or name another folder, then run it again")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again; shards and uploads continue, other exports start again")


def find(name: str) -> Any:
    """The module of a command. Raises HelipError when there is none of that name."""
    dotted = name if "." in name else f"{PACKAGE}.{name.replace('-', '_')}"
    try:
        module = import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{dotted}.".startswith(f"{error.name}."):
            raise
        module = None
    if not (hasattr(module, "add_arguments") and hasattr(module, "run")):
        raise HelipError(f"helip convert has no {name}: name one of {', '.join(commands())}, or your own module a.b")
    return module


def commands() -> dict[str, str]:
    """Names and help texts of HELIP's commands. The modules are parsed, because to import them takes seconds."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if {"add_arguments", "run"} <= {node.name for node in module.body if isinstance(node, ast.FunctionDef)}:
            found[path.stem.replace("_", "-")] = summary(ast.get_docstring(module))
    return found


def summary(docstring: str | None) -> str:
    """The first line of a docstring."""
    return (docstring or "").strip().partition("\n")[0]


def overview() -> str:
    """The help text: one line per command."""
    known = commands()
    width = max(map(len, known)) + 2
    purpose = "Import and export of files of other programs; NAME --help shows the arguments."
    lines = [f"  {name:<{width}}{what}" for name, what in known.items()]
    return "\n".join(["usage: helip convert NAME ...", "", purpose, "", *lines])
