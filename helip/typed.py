"""Converts plain values of the configuration to typed settings, with error messages for wrong names and types.

Every field of settings has a role; identities, resume checks and records are derived from it:

    result      changes weights or artefacts: part of their identity; a resumed run must share it
    schedule    duration and learning rate: a resumed run may change it with train.allow_change
    operation   devices, paths, logging: never part of an identity
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from helip.errors import HelipError, nearest

Settings = TypeVar("Settings")
Part = TypeVar("Part")
Role = Literal["result", "schedule", "operation"]
TARGET = "_target_"  # Hydra's key for the class of a node


def _field(role: Role, *, default: Any = MISSING, default_factory: Any = MISSING, **marks: Any) -> Any:
    """A field of settings.

    Args:
        role: see above.
        default, default_factory: as of dataclasses.field.
        marks: `after=True`: changes what is made of the weights, not the weights; a resumed run may have another value.
            `firm=WHY`: no resumed run may have another value, even when asked. `ordered=True`: the order of a mapping
            counts. `rest=True`: a mapping of all that the group has besides the other fields. `inner=True`: no file of
            conf/ names it. `files=True`: reaches the weights through files alone, whose content a resumed run compares.
            `least=N` and `choices=(...)`: the allowed values; null is not compared with `least`.
    """
    return field(default=default, default_factory=default_factory, metadata={"role": role, **marks})


result, schedule, operation = partial(_field, "result"), partial(_field, "schedule"), partial(_field, "operation")


def role_of(one: Field[Any]) -> Role | None:
    """The role of a field of settings; None if it has none."""
    return one.metadata.get("role")


@dataclass(frozen=True)
class Leaf(Generic[Part]):
    """An open part: each call makes a new object of a `_target_` node of the configuration.

    Leaves are compared and recorded by their node, so that weights or indexes are loaded only when used.
    """

    node: Mapping[str, Any]
    make: Callable[[Mapping[str, Any]], Part] = field(compare=False, repr=False)

    def __call__(self) -> Part:
        return self.make(self.node)


def typed(
    cls: type[Settings], group: str, values: Mapping[str, Any], make: Callable[[Any], Any] | None = None
) -> Settings:
    """Make a dataclass from a configuration group; fields that are dataclasses are nested groups.

    Args:
        cls: the dataclass.
        group: its name, for messages; "" for the whole configuration.
        values: plain values by field.
        make: makes the object of a leaf's node.

    Raises:
        HelipError: a setting is unknown, missing, or of another type or range.
    """
    hints, made = get_type_hints(cls), {}
    prefix = f"{group}." if group else ""
    rest = next((one.name for one in fields(cls) if one.metadata.get("rest")), None)  # type: ignore[arg-type]
    if rest is not None:
        own = {name: value for name, value in values.items() if name in hints and name != rest}
        values = {**own, rest: {name: value for name, value in values.items() if name not in own}}
    for name, value in values.items():
        if name not in hints:
            raise HelipError(f"there is no setting {prefix}{name}{nearest(name, hints)}")
        inner = settings_of(hints[name])
        if inner is not None and isinstance(value, Mapping):
            made[name] = typed(inner, f"{prefix}{name}", value, make)
            continue
        if not fits(value, hints[name]):
            raise HelipError(f"{prefix}{name}={value} must be {_readable(hints[name])}")
        made[name] = _with_leaves(value, make) if make and _has_leaf(hints[name]) else value
    for one in fields(cls):  # type: ignore[arg-type]
        if one.name in values:
            _check_range(one, values[one.name], prefix)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise HelipError(f"{prefix}{one.name} must be given: {prefix}{one.name}=VALUE")
    return cls(**made)


def _check_range(one: Field[Any], value: Any, prefix: str) -> None:
    """Raises HelipError for a value below the `least` of its field, or not among its `choices`."""
    least, choices = one.metadata.get("least"), one.metadata.get("choices")
    if least is not None and value is not None and value < least:
        raise HelipError(f"{prefix}{one.name}={value} must be at least {least}")
    if choices and value not in choices:
        raise HelipError(f"{prefix}{one.name}={value} is not one of {', '.join(str(one).lower() for one in choices)}")


def settings_of(hint: Any) -> Any:
    """The dataclass of settings in a type hint, also in an optional one; None if there is none."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return next((one for one in choices if isinstance(one, type) and is_dataclass(one)), None)


def _has_leaf(hint: Any) -> bool:
    return get_origin(hint) is Leaf or any(_has_leaf(one) for one in get_args(hint))


def _with_leaves(value: Any, make: Callable[[Any], Any]) -> Any:
    """A value with its `_target_` nodes as leaves; `make` handles nested nodes."""
    if isinstance(value, Mapping):
        return Leaf(value, make) if TARGET in value else {name: _with_leaves(one, make) for name, one in value.items()}
    return [_with_leaves(one, make) for one in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """Settings as JSON-like values, the inverse of `typed`: leaves as nodes, groups as mappings."""
    if isinstance(value, Leaf):
        return plain(value.node)
    if is_dataclass(value) and not isinstance(value, type):
        found = {}
        for one in fields(value):
            inner = plain(getattr(value, one.name))
            if one.metadata.get("rest"):
                found |= inner
            elif not (one.metadata.get("inner") and getattr(value, one.name) == one.default):
                found[one.name] = inner
        return found
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, PurePath) else value


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of nested settings; a list is a value, and an empty mapping has none."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    parts = [flat(inner, f"{prefix}.{name}" if prefix else str(name)) for name, inner in values.items()]
    return {name: value for part in parts for name, value in part.items()}


def kept(
    cls: type, values: Mapping[str, Any], roles: Sequence[Role] = ("result", "schedule"), after: bool = True
) -> dict[str, Any]:
    """The settings of some roles among plain values, nested; missing settings have their default.

    Defaults make records comparable that are older than a setting. after=False leaves out settings marked `after`.
    """
    hints, found = get_type_hints(cls), {}
    for one in fields(cls):
        if one.metadata.get("inner") and one.name not in values:
            continue
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        value = values.get(one.name, plain(default))
        if one.metadata.get("rest"):
            value = {name: inner for name, inner in values.items() if name not in hints}
        inner = settings_of(hints[one.name])
        if inner is not None and value is MISSING:
            value = {}
        if inner is not None and isinstance(value, Mapping):
            if nested := kept(inner, value, roles, after):
                found[one.name] = nested
        elif role_of(one) in roles and value is not MISSING and (after or "after" not in one.metadata):
            ordered = one.metadata.get("ordered") and isinstance(value, Mapping)
            found[one.name] = [list(item) for item in value.items()] if ordered else plain(value)
    return found


def marked(cls: type, mark: str) -> dict[str, Any]:
    """The fields of a class with a mark such as `firm`, and its value."""
    return {one.name: one.metadata[mark] for one in fields(cls) if mark in one.metadata}


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a type hint; a whole number fits float, a boolean is no number."""
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
    if settings_of(hint) is not None:
        return isinstance(value, settings_of(hint))
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
    if is_dataclass(hint):
        return f"a group with {', '.join(one.name for one in fields(hint) if not one.metadata.get('inner'))}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    kind = get_origin(hint) or hint
    return names.get(kind) or {list: "a list", tuple: "a list", dict: "a mapping"}.get(kind, str(hint))
