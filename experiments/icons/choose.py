"""The icons of the data, chosen from @iconify/json, with caption and part.

A set is taken whole or not at all: permissively licensed, no logos (programming sets are mostly logos and file types),
flags, emoji or archives, still shown on iconify's site, not animated (a still of time 0 is half a picture), and no copy
of another set. Of icons with the same drawing one stays, whichever set it comes from: what is trained on is never
tested on. A part depends on the SHA-256 of "SET:NAME" alone, so it depends on no library's random numbers:

- `unseen`: 4,100 icons of sets that no base was trained on; `unseen_train`: the other icons of these sets.
- `test`, `val`: 4 % each of the icons of the other sets; `train`: the rest.

Within a part, icons stand in the order of another SHA-256: a shard is a uniform sample of its part.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PERMISSIVE = frozenset(
    {"MIT", "ISC", "Apache-2.0", "BSD-3-Clause", "Unlicense", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "OFL-1.1"}
)
LEFT_OUT = frozenset({"Logos", "Programming", "Flags / Maps", "Emoji", "Archive / Unmaintained"})
COPIES = frozenset({"famicons"})  # 1,270 of its 1,342 drawings are those of ion, an unseen set
UNSEEN = frozenset(
    {"tabler", "lucide", "carbon", "bi", "mingcute", "ion", "iconoir", "pixelarticons", "game-icons", "healthicons"}
)
TEST_SHARE, VAL_SHARE = 0.04, 0.04
UNSEEN_COUNT = 4100  # icons of `unseen`, those that cannot be drawn included
SIDE = 16  # iconify's default width and height


@dataclass(frozen=True, slots=True)
class Icon:
    """One drawing: SVG elements and the box that they are drawn in."""

    set: str
    name: str
    body: str
    left: float
    top: float
    width: float
    height: float

    @property
    def id(self) -> str:
        """As iconify writes it."""
        return f"{self.set}:{self.name}"

    @property
    def caption(self) -> str:
        """The words of its name."""
        return " ".join(self.name.replace("-", " ").replace("_", " ").split())

    @property
    def rank(self) -> str:
        """Place in its part: evenly spread, the same on every machine."""
        return hashlib.sha256(self.id.encode()).hexdigest()

    @property
    def part(self) -> str:
        """train, val, test or unseen; `split` divides unseen further."""
        if self.set in UNSEEN:
            return "unseen"
        place = int(hashlib.sha256(f"part {self.id}".encode()).hexdigest()[:8], 16) / 2**32
        if place < TEST_SHARE:
            return "test"
        return "val" if place < TEST_SHARE + VAL_SHARE else "train"


def is_wanted(name: str, about: Mapping[str, Any]) -> bool:
    """Whether a set belongs to the data.

    Args:
        name: iconify's prefix of the set.
        about: its entry in collections.json.
    """
    return (
        about["license"].get("spdx") in PERMISSIVE
        and about.get("category") not in LEFT_OUT
        and not about.get("hidden")
        and "Contains Animations" not in about.get("tags", ())
        and name not in COPIES
    )


def icons_of(content: Mapping[str, Any]) -> list[Icon]:
    """The icons of one set's IconifyJSON, without aliases and withdrawn (`hidden`) icons."""

    def box(icon: Mapping[str, Any], key: str, default: float) -> float:
        return icon.get(key, content.get(key, default))

    return [
        Icon(
            content["prefix"],
            name,
            icon["body"],
            box(icon, "left", 0),
            box(icon, "top", 0),
            box(icon, "width", SIDE),
            box(icon, "height", SIDE),
        )
        for name, icon in content["icons"].items()
        if not icon.get("hidden") and not content.get("hidden")
    ]


def split(icons: Iterable[Icon]) -> dict[str, list[Icon]]:
    """The icons of each part, in order; each drawing once, unseen sets first."""
    parts: dict[str, list[Icon]] = {"train": [], "val": [], "test": [], "unseen": []}
    drawn: set[str] = set()
    for icon in sorted(icons, key=lambda icon: (icon.set not in UNSEEN, icon.rank)):
        if icon.body not in drawn and icon.caption:
            drawn.add(icon.body)
            parts[icon.part].append(icon)
    return parts | {"unseen": parts["unseen"][:UNSEEN_COUNT], "unseen_train": parts["unseen"][UNSEEN_COUNT:]}
