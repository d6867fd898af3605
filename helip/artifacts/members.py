# pyright: strict
"""The members of a sample: an image, a caption and metadata that share a key.

webdataset's rule: the key is the path up to the first dot of its last component, the suffix is the rest, and the
members of a sample share the key, in any order. Of several images or captions the first suffix of a list is taken.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helip.errors import HelipError

IMAGE, TEXT, JSON = 0, 1, 2  # the columns of a row
IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
CAPTIONS = ("txt", "text", "caption")
NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
META = re.compile(r"__[^/]*__($|/)")  # reserved by webdataset: __index__/..., __name__
# Format 1 of the shard index started a new row at every further image, and had one caption suffix.
FORMAT_1 = dict.fromkeys(IMAGES, IMAGE) | {"txt": TEXT, "json": JSON}


@dataclass(frozen=True)
class Members:
    """Suffixes of images and captions in order of preference, lower case; `left.jpg` is one suffix."""

    image: tuple[str, ...] = IMAGES
    caption: tuple[str, ...] = CAPTIONS

    @classmethod
    def of(cls, named: Mapping[str, Sequence[str] | None]) -> "Members":
        """From dataset.members; null keeps the default. Raises HelipError for another role, or wrong suffixes."""
        roles: dict[str, tuple[str, ...]] = {}
        for role, suffixes in named.items():
            if role not in ("image", "caption"):
                raise HelipError(f"dataset.members has no {role}, only image and caption")
            if suffixes is not None:
                roles[role] = tuple(suffix.lower().removeprefix(".") for suffix in suffixes)
                if not all(roles[role]) or not roles[role]:
                    raise HelipError(f"dataset.members.{role}={list(suffixes)} must list suffixes, such as [jpg, png]")
        members = cls(**roles)
        if both := {*members.image} & {*members.caption} or {"json"} & {*members.image, *members.caption}:
            raise HelipError(f"dataset.members names .{both.pop()} for two roles: an image, a caption and .json differ")
        return members

    def column(self, suffix: str) -> int | None:
        return IMAGE if suffix in self.image else TEXT if suffix in self.caption else JSON if suffix == "json" else None

    def described(self) -> dict[str, list[str]]:
        """JSON-like; empty if all suffixes are the default."""
        return {} if self == Members() else {"image": list(self.image), "caption": list(self.caption)}


@dataclass(frozen=True)
class Arrangement:
    """How adjacent members of one key form rows.

    Attributes:
        rows: positions of image, caption and metadata among the members, -1 for a missing one; several rows if a
            suffix repeats.
        passed_over: suffixes of images and captions that were not chosen.
        as_format_1: whether format 1 of the shard index had the same rows.
    """

    rows: tuple[tuple[int, int, int], ...]
    passed_over: tuple[str, ...]
    as_format_1: bool


def arrange(suffixes: tuple[str, ...], members: Members) -> Arrangement:
    """Arrange adjacent members of one key by their lower-case suffixes."""
    parts: list[dict[str, int]] = [{}]
    for place, suffix in enumerate(suffixes):
        if members.column(suffix) is not None:
            if suffix in parts[-1]:  # webdataset refuses this; here it is a second sample of the same key
                parts.append({})
            parts[-1][suffix] = place
    rows: list[tuple[int, int, int]] = []
    passed_over: list[str] = []
    for part in parts:
        images, captions = ([s for s in order if s in part] for order in (members.image, members.caption))
        chosen = [found[0] if found else "" for found in (images, captions)]
        rows.append((part.get(chosen[0], -1), part.get(chosen[1], -1), part.get("json", -1)))
        passed_over += [*images[1:], *captions[1:]]
    return Arrangement(tuple(rows), tuple(passed_over), tuple(rows) == _format_1(suffixes))


def _format_1(suffixes: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    rows = [[-1, -1, -1]]
    for place, suffix in enumerate(suffixes):
        if (column := FORMAT_1.get(suffix)) is not None:
            if rows[-1][column] >= 0:
                rows.append([-1, -1, -1])
            rows[-1][column] = place
    return tuple(tuple(row) for row in rows)
