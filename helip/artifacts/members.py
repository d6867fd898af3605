# pyright: strict
"""What belongs to a sample: members that share a key, of which one is the image, one the caption, one the metadata.

webdataset's rule: the key is the path up to the first dot of its last component, the suffix is the rest, and a sample
is what shares the key, in whatever order. Of several images and several captions the first of a stated list is taken.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helip.errors import HelipError

IMAGE, TEXT, JSON = 0, 1, 2  # the columns of a row
IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
CAPTIONS = ("txt", "text", "caption")
NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
META = re.compile(r"__[^/]*__($|/)")  # what webdataset keeps for itself: __index__/..., __name__
# Format 1 of the shard index began a row at every further image, and knew one suffix of captions.
FORMAT_1 = dict.fromkeys(IMAGES, IMAGE) | {"txt": TEXT, "json": JSON}


@dataclass(frozen=True)
class Members:
    """Suffixes of images and captions in order of preference, in small letters; `left.jpg` is one suffix."""

    image: tuple[str, ...] = IMAGES
    caption: tuple[str, ...] = CAPTIONS

    @classmethod
    def of(cls, named: Mapping[str, Sequence[str] | None]) -> "Members":
        """From dataset.members; what it leaves out or says null to keeps its default.

        Raises:
            HelipError: another role than image and caption, an empty list, or one suffix in both.
        """
        roles: dict[str, tuple[str, ...]] = {}
        for role, suffixes in named.items():
            if role not in ("image", "caption"):
                raise HelipError(f"dataset.members has no {role}, only image and caption")
            if suffixes is not None:
                roles[role] = tuple(suffix.lower().removeprefix(".") for suffix in suffixes)
                if not all(roles[role]) or not roles[role]:
                    raise HelipError(f"dataset.members.{role}={list(suffixes)} must list suffixes such as jpg")
        members = cls(**roles)
        if both := {*members.image} & {*members.caption} or {"json"} & {*members.image, *members.caption}:
            raise HelipError(f"dataset.members names .{both.pop()} for two roles: an image, a caption and .json differ")
        return members

    def column(self, suffix: str) -> int | None:
        return IMAGE if suffix in self.image else TEXT if suffix in self.caption else JSON if suffix == "json" else None

    def described(self) -> dict[str, list[str]]:
        """JSON-like; empty where all is the default."""
        return {} if self == Members() else {"image": list(self.image), "caption": list(self.caption)}


@dataclass(frozen=True)
class Arrangement:
    """What becomes of adjacent members of one key.

    Attributes:
        rows: the places of image, caption and metadata among the members, -1 where there is none; more than one row
            where a suffix repeats.
        passed_over: suffixes of images and captions beside the chosen ones.
        as_format_1: whether the rows are those of the first format of the shard index.
    """

    rows: tuple[tuple[int, int, int], ...]
    passed_over: tuple[str, ...]
    as_format_1: bool


def arrange(suffixes: tuple[str, ...], members: Members) -> Arrangement:
    """The rows of adjacent members of one key, by their suffixes in small letters."""
    parts: list[dict[str, int]] = [{}]
    for place, suffix in enumerate(suffixes):
        if members.column(suffix) is not None:
            if suffix in parts[-1]:  # webdataset refuses it; two samples of one key stand side by side
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
