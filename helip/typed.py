"""Plain values of the configuration into typed settings: a wrong name or type is a sentence, not a traceback."""

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from helip.errors import HelipError

Settings = TypeVar("Settings")


def typed(cls: type[Settings], group: str, values: Mapping[str, Any]) -> Settings:
    """A dataclass from the settings of a configuration group.

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
    for field in fields(cls):  # type: ignore[arg-type]
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise HelipError(f"{group}.{field.name} must be given: {group}.{field.name}=VALUE")
    return cls(**values)


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
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _readable(hint: Any) -> str:
    if hint is NoneType:
        return "null"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_readable(one) for one in get_args(hint)))
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    kind = get_origin(hint) or hint
    return names.get(kind) or {list: "a list", tuple: "a list", dict: "a mapping"}.get(kind, str(hint))
