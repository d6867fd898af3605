"""Plain values of the configuration into typed settings: a wrong name or type is a sentence, not a traceback.

A field of settings says what it does to a run by its role, from which identities, resume checks and records follow:

    result      changes weights or artefacts: part of their identity, and a resumed run must share it
    schedule    how long and how fast: a resumed run may change it when asked
    operation   devices, places, logging: never part of an identity
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from helip.errors import HelipError

Settings = TypeVar("Settings")
Part = TypeVar("Part")
Role = Literal["result", "schedule", "operation"]
TARGET = "_target_"  # Hydra's name of what a node makes


def result(*, default: Any = MISSING, default_factory: Any = MISSING) -> Any:
    """A field that changes weights or artefacts."""
    return _field("result", default, default_factory)


def schedule(*, default: Any = MISSING, default_factory: Any = MISSING) -> Any:
    """A field that a resumed run may change when asked."""
    return _field("schedule", default, default_factory)


def operation(*, default: Any = MISSING, default_factory: Any = MISSING) -> Any:
    """A field that changes neither weights nor artefacts."""
    return _field("operation", default, default_factory)


def _field(role: Role, default: Any, default_factory: Any) -> Any:
    return field(default=default, default_factory=default_factory, metadata={"role": role})


def role_of(one: Field[Any]) -> Role | None:
    """What a field of settings does to a run; None where it does not say."""
    return one.metadata.get("role")


@dataclass(frozen=True)
class Leaf(Generic[Part]):
    """An open part: what a `_target_` node of the configuration names, made anew by each call.

    Leaves compare and are recorded by their node, so that weights or indexes are loaded only where they are used.
    """

    node: Mapping[str, Any]
    make: Callable[[Mapping[str, Any]], Part] = field(compare=False, repr=False)

    def __call__(self) -> Part:
        return self.make(self.node)


def typed(
    cls: type[Settings], group: str, values: Mapping[str, Any], make: Callable[[Any], Any] | None = None
) -> Settings:
    """A dataclass from the settings of a configuration group.

    Args:
        cls: the dataclass.
        group: its name, for sentences.
        values: plain values by field.
        make: what a leaf's node becomes when the leaf is called.

    Raises:
        HelipError: a setting that the class does not have, one that is missing, or one of another type.
    """
    hints = get_type_hints(cls)
    for name, value in values.items():
        if name not in hints:
            close = difflib.get_close_matches(name, hints, 1, 0.4)
            raise HelipError(f"there is no setting {group}.{name}" + (f", did you mean {close[0]!r}?" if close else ""))
        if not fits(value, hints[name]):
            raise HelipError(f"{group}.{name}={value} must be {_readable(hints[name])}")
    leaves = {name: Leaf(value, make) for name, value in values.items() if make and get_origin(hints[name]) is Leaf}
    for one in fields(cls):  # type: ignore[arg-type]
        if one.name not in values and one.default is MISSING and one.default_factory is MISSING:
            raise HelipError(f"{group}.{one.name} must be given: {group}.{one.name}=VALUE")
    return cls(**{**values, **leaves})


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is what a type hint says; a whole number is a float as well, a boolean is no number."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(key, inner[0]) and fits(v, inner[1]) for key, v in value.items())
    if origin is Leaf:
        return isinstance(value, Leaf) or (isinstance(value, dict) and TARGET in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _readable(hint: Any) -> str:
    if hint is NoneType:
        return "null"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_readable(one) for one in get_args(hint)))
    if get_origin(hint) is Leaf:
        return f"a mapping with {TARGET}, the dotted name of a class"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    kind = get_origin(hint) or hint
    return names.get(kind) or {list: "a list", tuple: "a list", dict: "a mapping"}.get(kind, str(hint))
