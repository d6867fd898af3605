"""Fixtures of the searches."""

from collections.abc import Callable

import pytest


@pytest.fixture
def set_room(monkeypatch) -> Callable[[int], None]:
    """Sets how many candidates a target may keep, for any depth up to that."""

    def set_it(room: int) -> None:
        monkeypatch.setattr("helip.mining.candidates.ROOM", 1)
        monkeypatch.setattr("helip.mining.candidates.LEAST_ROOM", room)

    return set_it
