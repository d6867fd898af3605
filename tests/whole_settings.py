"""Finds functions that take the whole configuration, by the types of their parameters.

The whole configuration is the tree of a program (SharedSettings and its subclasses), Hydra's DictConfig, an alias of
one of them, or the plain mapping that the command line makes of it. A program may take its tree, and the command line
all of them. Calls are checked too, because a parameter may have the type Any.
"""

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT_TREE, HYDRA = "SharedSettings", {"DictConfig", "ListConfig", "BaseContainer"}
COMPOSE = ("cli", "config")  # rooms that make the tree from the mapping
Function = ast.FunctionDef | ast.AsyncFunctionDef
HOLD = (*COMPOSE, "programs", "typed")  # typed reads only fields and roles


@dataclass
class Module:
    """A file of helip/."""

    file: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.file.split("/")[1].removesuffix(".py")

    @cached_property
    def imports(self) -> dict[str, str]:
        """Local name -> room of helip that it comes from, wherever in the file it is imported."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helip."):
                found |= {one.asname or one.name: str(node.module).split(".")[1] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "helip":
                found |= {one.asname or one.name: one.name for one in node.names}
        return found


def modules(root: Path) -> list[Module]:
    files = sorted((root / "helip").rglob("*.py"))
    return [Module(path.relative_to(root).as_posix(), ast.parse(path.read_text("utf-8"))) for path in files]


def names_in(node: ast.AST | None) -> set[str]:
    """Names of an annotation, those in quotes too, without the rooms before them."""
    found: set[str] = set()
    for part in ast.walk(node) if node else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            with suppress(SyntaxError):  # a Literal's text
                found |= names_in(ast.parse(part.value, mode="eval"))
        found |= {part.id} if isinstance(part, ast.Name) else {part.attr} if isinstance(part, ast.Attribute) else set()
    return found


def whole_types(all_of: list[Module]) -> set[str]:
    """Trees, their subclasses, and aliases of both."""
    bound: list[tuple[str, set[str]]] = []
    for node in (node for module in all_of for node in module.tree.body):
        if isinstance(node, ast.ClassDef):
            bound.append((node.name, set().union(*map(names_in, node.bases))))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.BinOp | ast.Subscript):
            bound += [(one.id, names_in(node.value)) for one in node.targets if isinstance(one, ast.Name)]
    found, before = {ROOT_TREE, *HYDRA}, 0
    while len(found) > before:
        before = len(found)
        found |= {name for name, parts in bound if parts & found}
    return found


def parameters(function: Function) -> list[ast.arg]:
    own = function.args
    return [*own.posonlyargs, *own.args, *own.kwonlyargs, *(one for one in (own.vararg, own.kwarg) if one)]


def functions(tree: ast.AST) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def taken(root: Path) -> list[str]:
    """Forbidden parameters of a whole type, and forbidden calls with a whole configuration."""
    all_of = modules(root)
    whole, found = whole_types(all_of), []
    keepers = {name for module in all_of for function in functions(module.tree) for name in kept(function, whole)}
    for module in (module for module in all_of if module.room not in COMPOSE):
        refused = HYDRA if module.room == "programs" else whole
        for function in functions(module.tree):
            kinds = {one.arg: names_in(one.annotation) & refused for one in parameters(function)}
            found += [f"{module.file} {function.name}({n}: {', '.join(kind)})" for n, kind in kinds.items() if kind]
    for module in (module for module in all_of if module.room in (*COMPOSE, "programs")):
        for function in functions(module.tree):
            found += [
                f"{module.file} {function.name} passes {what}" for what in passed(module, function, whole, keepers)
            ]
    return sorted(set(found))


def held(function: Function, whole: set[str]) -> set[str]:
    """Parameters of a whole type."""
    return {one.arg for one in parameters(function) if names_in(one.annotation) & whole}


def kept(function: Function, whole: set[str]) -> set[str]:
    """Attributes in which a function keeps a parameter of a whole type."""
    found: set[str] = set()
    for node in (node for node in ast.walk(function) if isinstance(node, ast.Assign)):
        target = node.targets[0]
        several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
        pairs = zip(target.elts, node.value.elts, strict=True) if several else [(target, node.value)]  # type: ignore[union-attr]
        for place, value in pairs:
            if isinstance(place, ast.Attribute) and isinstance(value, ast.Name) and value.id in held(function, whole):
                found.add(place.attr)
    return found


def composed(module: Module, function: Function) -> set[str]:
    """Names of the mapping that Hydra composed: made by to_container, or a parameter that maps text to anything."""
    mapping = {
        one.id
        for node in module.tree.body
        if isinstance(node, ast.Assign) and maps_to_anything(node.value)
        for one in node.targets
        if isinstance(one, ast.Name)
    }
    found = {
        one.arg
        for one in parameters(function)
        if maps_to_anything(one.annotation) or names_in(one.annotation) & mapping
    }
    for node in (node for node in ast.walk(function) if isinstance(node, ast.Assign | ast.AnnAssign) and node.value):
        if "to_container" in names_in(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {one.id for one in targets if isinstance(one, ast.Name)}
    return found


def maps_to_anything(node: ast.AST | None) -> bool:
    names = names_in(node) if isinstance(node, ast.Subscript) else set()
    return "Any" in names and bool(names & {"dict", "Mapping"})


def passed(module: Module, function: Function, whole: set[str], keepers: set[str]) -> list[str]:
    """Calls that pass a whole configuration to a room that may not have it."""
    trees, mappings = held(function, whole), composed(module, function) if module.room in COMPOSE else set()
    found = []
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        called = call.func
        while isinstance(called, ast.Attribute):
            called = called.value
        room = module.imports.get(called.id) if isinstance(called, ast.Name) else None
        for given in (*call.args, *(one.value for one in call.keywords)):
            name = given.id if isinstance(given, ast.Name) else None
            tree = name in trees or (isinstance(given, ast.Attribute) and given.attr in keepers)
            if room and ((tree and room not in HOLD) or (name in mappings and room not in (*COMPOSE, "typed"))):
                found.append(f"{ast.unparse(given)} to {ast.unparse(call.func)}")
    return found
