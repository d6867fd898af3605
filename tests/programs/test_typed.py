"""Plain values as typed settings, and the messages about those that do not fit."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from helip.errors import HelipError
from helip.typed import fits, operation, typed


@dataclass(frozen=True)
class Settings:
    count: int
    share: float = 0.5
    name: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    rows: int | None = operation(default=None, least=1)
    mode: str | bool = operation(default="auto", choices=("auto", True))


def test_good_values_make_settings() -> None:
    assert typed(Settings, "group", {"count": 3, "share": 1, "parts": {"a": "b"}}) == Settings(3, 1, None, {"a": "b"})
    assert typed(Settings, "", {"count": 3, "rows": None, "mode": True}).mode is True


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": 3.5}, "group.count=3.5 must be a whole number"),
        ({"count": True}, "group.count=True must be a whole number"),
        ({"count": "3"}, "group.count=3 must be a whole number"),
        ({"count": None}, "group.count=None must be a whole number"),
        ({"count": 1, "share": "x"}, "group.share=x must be a number"),
        ({"count": 1, "name": 3}, "group.name=3 must be text or null"),
        ({"count": 1, "parts": {"a": 1}}, "group.parts={'a': 1} must be a mapping"),
        ({"count": 1, "shares": 1.0}, "there is no setting group.shares, did you mean 'share'?"),
        ({"count": 1, "zzz": 1.0}, "there is no setting group.zzz"),
        ({}, "group.count must be given: group.count=VALUE"),
        ({"count": 1, "rows": 0}, "group.rows=0 must be at least 1"),
        ({"count": 1, "mode": "off"}, "group.mode=off is not one of auto, true"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HelipError) as error:
        typed(Settings, "group", values)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("value", "hint", "fit"),
    [
        (1, int | str | list[int], True),
        ("auto", int | str | list[int], True),
        ([0, 1], int | str | list[int], True),
        (["a"], int | str | list[int], False),
        ([0.9, 1], float | tuple[float, float], True),
        ({"a": [{"b": 1}]}, dict[str, Any], True),
        ([{"kind": 1}], list[dict[str, Any]], True),
        (False, bool, True),
        (0, bool, False),
        (True, float, False),
    ],
)
def test_what_fits(value: Any, hint: Any, fit: bool) -> None:
    assert fits(value, hint) is fit
