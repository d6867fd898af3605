"""Mutation testing: change one operator, constant or statement at a time; the tests of that code must notice.

    python tests/mutation/mutate.py OUT.jsonl                     every mutant of every target
    python tests/mutation/mutate.py OUT.jsonl --targets order tar --share 0.5

torch is imported once; each mutant is a fork that compiles the changed module and runs the target's tests until the
first failure. Survivors are listed in tests/mutation/results.md, each with its reason. Mutants come in a shuffled order
that is always the same, and those in OUT are not run again: a part of a run is a sample, and goes on.
"""

import argparse
import ast
import contextlib
import gc
import importlib.abc
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
CPU_LIMIT = 10  # seconds beside four times what the unchanged module takes: a mutant that loops counts as noticed


@dataclass(frozen=True)
class Target:
    """Functions of a module (qualified names; none: all of it) and the tests that must notice."""

    module: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]


def _tests(room: str, *names: str) -> tuple[str, ...]:
    """The quick ones first: the first failure is the last test."""
    return tuple(f"tests/{room}/test_{name}.py" for name in names)


LOSSES = _tests("training", "losses", "margins", "cut_batches")
BOUNDS = _tests("mining", "contract", "bounds", "rules")
TARGETS = {
    "tar": Target("helip.artifacts.tar", (), _tests("artifacts", "tar_edges", "tar", "sparse")),
    "order": Target("helip.data.order", (), _tests("data", "order", "sources")),
    "losses": Target("helip.training.losses", (), LOSSES),
    "margins": Target("helip.training.margins", (), LOSSES),
    "roles": Target(
        "helip.training.batch_roles",
        ("Layout.rows", "Layout.duplicates", "lay_out", "known_duplicates", "mined_members"),
        LOSSES,
    ),
    "rules": Target(
        "helip.mining.rescore",
        ("unfiltered", "failures", "_select", "rescore"),
        _tests("mining", "rules", "exact", "second_look"),
    ),
    "scan": Target("helip.mining.scan", (), _tests("mining", "scans", "bounds")),
    "candidates": Target(
        "helip.mining.candidates",
        tuple(f"Candidates.{name}" for name in ("add", "_bounded", "_grouped")),
        BOUNDS,
    ),
    "scores": Target("helip.mining.scores", (), BOUNDS),
}
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.LShift: ast.RShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
NAMES = {"amin": "amax", "amax": "amin", "maximum": "minimum", "minimum": "maximum", "any": "all", "min": "max"}
Change = tuple[str, int, Callable[[], None]]  # what, line, apply


def changes(tree: ast.AST, functions: tuple[str, ...]) -> Iterator[Change]:
    """Every change of the functions' code: never of docstrings, annotations or messages."""
    for name, node in _functions(tree, ""):
        if not functions or name in functions:
            for body in node.body:
                yield from _below(body)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")


def _below(node: ast.AST) -> Iterator[Change]:
    """Changes of a node and of what it contains."""
    yield from _of_node(node)
    for field, value in ast.iter_fields(node):
        skipped = isinstance(node, ast.Raise) or field in ("annotation", "returns")
        docstring = isinstance(node, ast.Expr) and isinstance(value, ast.Constant)
        if skipped or docstring:
            continue
        children = value if isinstance(value, list) else [value]
        for position, child in enumerate(children):
            if isinstance(child, ast.AST):
                if isinstance(value, list) and _droppable(child):
                    yield (
                        f"drop `{ast.unparse(child)}`",
                        getattr(child, "lineno", 0),
                        _setter(value, position, ast.copy_location(ast.Pass(), child)),
                    )
                yield from _below(child)


def _droppable(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    return isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
    )


def _setter(container: Any, key: Any, value: object) -> Callable[[], None]:
    def apply() -> None:
        if isinstance(container, list):
            container[key] = value
        else:
            setattr(container, key, value)

    return apply


def _of_node(node: ast.AST) -> Iterator[Change]:
    line = getattr(node, "lineno", 0)
    before = ast.unparse(node) if isinstance(node, ast.expr | ast.AugAssign) else ""
    if isinstance(node, ast.Compare):
        for position, op in enumerate(node.ops):
            swapped = SWAPS[type(op)]()
            yield (
                f"`{before}`: {type(op).__name__} -> {type(swapped).__name__}",
                line,
                _setter(node.ops, position, swapped),
            )
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        swapped = SWAPS[type(node.op)]()
        yield f"`{before}`: {type(node.op).__name__} -> {type(swapped).__name__}", line, _setter(node, "op", swapped)
    if isinstance(node, ast.UnaryOp):
        yield (
            f"`{before}`: without its sign",
            line,
            _setter(node, "op", ast.UAdd()) if isinstance(node.op, ast.USub) else _replace_by_operand(node),
        )
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool, bytes) and not _in_place(node):
        value: Any = node.value
        other = not value if isinstance(value, bool) else value + b"X" if isinstance(value, bytes) else value + 1
        yield f"{value!r} -> {other!r}", line, _setter(node, "value", other)
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
        yield f"if not `{ast.unparse(node.test)}`", line, _setter(node, "test", test)
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield f"`{before}` -> {NAMES[node.attr]}", line, _setter(node, "attr", NAMES[node.attr])


def _in_place(node: ast.Constant) -> bool:
    return isinstance(node.value, float) and node.value == float("inf")


def _replace_by_operand(node: ast.UnaryOp) -> Callable[[], None]:
    """`~x` and `not x` become `x`: as the double negation, which needs no parent."""
    again = ast.copy_location(ast.UnaryOp(type(node.op)(), node.operand), node.operand)
    return _setter(node, "operand", again)


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a changed tree."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self.module, self.path = module, path
        self.code = compile(ast.fix_missing_locations(tree), str(path), "exec")

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:  # type: ignore[override]
        return importlib.util.spec_from_loader(name, self, origin=str(self.path)) if name == self.module else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        exec(self.code, module.__dict__)


def attempt(target: Target, number: int | None, limit: float = 600) -> tuple[str, float]:
    """Run the tests on mutant `number` (None: unchanged) in a fork with a limit of CPU seconds.

    Returns:
        "killed" (and in brackets how, if not by a failed test) or "survived", and its CPU seconds.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os._exit(_child(target, number, round(limit)))
        finally:
            os._exit(99)
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    known = {0: "survived", 1: "killed", 2: "killed", -signal.SIGXCPU: "killed (CPU limit)"}
    return known.get(code, f"killed ({code})"), used.ru_utime + used.ru_stime


def _child(target: Target, number: int | None, limit: int) -> int:
    import hypothesis
    import pytest

    # a failure is enough: it is neither shrunk nor remembered
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutation", phases=phases, database=None, derandomize=True)
    hypothesis.settings.load_profile("mutation")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they cost as much as most of these tests
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    path = ROOT / Path(*target.module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text())
    if number is not None:
        list(changes(tree, target.functions))[number][2]()
    sys.meta_path.insert(0, _Mutated(target.module, path, tree))
    tests = [str(ROOT / test) for test in target.tests if (ROOT / test).exists()]
    options = ["-o", "addopts=--import-mode=importlib -m 'not slow and not gpu'", "-p", "no:cacheprovider", "--tb=no"]
    return int(pytest.main([*tests, "-x", "-q", *options]))


def main() -> None:
    """Append a line of JSON per mutant; print survivors and counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants of each target")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in ("torch", "open_clip", "pyarrow", "hypothesis", "pytest"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each fork's first collection touches, and so copies, all of torch: 0.7 CPU s instead of 0.2
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(line["target"], line["number"]) for line in lines}
    jobs: list[tuple[float, str, int, str, int]] = []
    limits: dict[str, float] = {}
    for name in args.targets:
        target = TARGETS[name]
        path = ROOT / Path(*target.module.split(".")).with_suffix(".py")
        found = list(changes(ast.parse(path.read_text()), target.functions))
        numbers = random.Random(name).sample(range(len(found)), len(found))[: round(args.share * len(found))]
        state, seconds = attempt(target, None)
        print(
            f"{name}: {len(found)} mutants, {len(numbers)} asked for; unchanged: {state}, {seconds:.1f} CPU s",
            flush=True,
        )
        limits[name] = CPU_LIMIT + 4 * seconds
        if state != "survived":
            raise SystemExit(f"{name}: its tests fail on the unchanged module")
        jobs += [(i / len(numbers), name, n, found[n][0], found[n][1]) for i, n in enumerate(numbers)]
    with args.out.open("a") as file:
        for _, name, number, what, line in sorted(jobs):
            if (name, number) in done:
                continue
            state, seconds = attempt(TARGETS[name], number, limits[name])
            entry = {
                "target": name,
                "number": number,
                "line": line,
                "what": what,
                "state": state,
                "cpu": round(seconds, 2),
            }
            lines.append(entry)
            print(json.dumps(entry), file=file, flush=True)
            if state == "survived":
                print(f"survived: {name} line {line}: {what}", flush=True)
    for name in args.targets:
        print(f"{name}: {dict(Counter(line['state'] for line in lines if line['target'] == name))}")


if __name__ == "__main__":
    began = time.perf_counter()
    main()
