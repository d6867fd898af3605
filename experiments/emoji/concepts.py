"""The emoji of the embedded data, their styles, and the part of each.

A concept is one emoji of Unicode with its CLDR name; a style is the set that draws it. The rule, in order:

1. Everything except people and country flags: animals, food, faces, clocks, keycaps, arrows, zodiac, hearts...
2. Country flags, without those that copy another country's flag. Two of the four sets draw them freely licensed.
3. People and hands in the subgroups of PEOPLE, without the "facing right" twins: all gender triples stay complete.
4. Skin tones: all five tones of the hands and people in TONES, so that siblings differ in one word and in one colour.

`extras-*` groups (logos, private-use code points) and emoji that Noto or Twemoji lack are left out. To keep the data
small, a training concept comes in two of the three training styles (the missing one rotates within a subgroup), a flag
in one of two. Parts follow from the SHA-256 of the code points, so they depend on no library's random numbers:

- `concepts`: 8 % of each subgroup, never trained on, in every style; the rest of the subgroup stays in training.
- `test` and `val`: OpenMoji's drawing, a style never trained on, of 35 % and 13 % of the training concepts; disjoint.
- `train`: Noto, Twemoji and Fluent 3D of all training concepts.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.emoji.sources import codepoints

TRAINING_STYLES = ("noto", "twemoji", "fluent")
HELD_OUT_STYLE = "openmoji"
HELD_OUT_SHARE, TEST_SHARE, VAL_SHARE = 0.08, 0.35, 0.13

PEOPLE = {
    *("hand-fingers-open", "hand-fingers-partial", "hand-fingers-closed", "hand-single-finger", "hands", "hand-prop"),
    *("body-parts", "person", "person-gesture", "person-role", "person-fantasy", "person-sport", "person-resting"),
}
TONES = {
    *("waving hand", "OK hand", "victory hand", "thumbs up", "thumbs down", "raised fist", "clapping hands"),
    *("backhand index pointing left", "backhand index pointing right", "flexed biceps"),
    *("baby", "man", "woman", "man firefighter", "woman firefighter", "man police officer", "woman police officer"),
}
# Regions whose flag equals that of another region, or looks the same at 64 pixels
COPIED_FLAGS = {"BV", "SJ", "CP", "MF", "HM", "DG", "EA", "UM"}
# Not in Microsoft's MIT release, though the npm package carries drawings of them: paperclips, technologists, video game
NOT_FLUENT_PARTS = {"1f4ce", "1f587", "1f3ae"}


@dataclass(frozen=True)
class Concept:
    """One emoji: `code` joins the four sets, `hexcode` is OpenMoji's spelling, `skintone` is "" or "1" to "5"."""

    code: str
    hexcode: str
    name: str
    group: str
    subgroup: str
    tags: str
    skintone: str
    base: str

    @property
    def is_country_flag(self) -> bool:
        """Whether this is a country's or a subdivision's flag (Fluent's are not freely licensed)."""
        return self.subgroup in {"country-flag", "subdivision-flag"}

    @property
    def rank(self) -> str:
        """Place in every draw: evenly spread, the same on every machine."""
        return hashlib.sha256(self.code.encode()).hexdigest()


def parse(rows: Sequence[dict[str, Any]]) -> list[Concept]:
    """Concepts from the rows of openmoji.json; a skin-tone variant takes the keywords of its base."""
    tags = {row["hexcode"]: row["tags"] for row in rows}
    return [
        Concept(
            codepoints(row["hexcode"]),
            row["hexcode"],
            row["annotation"],
            row["group"],
            row["subgroups"],
            row["tags"] or tags.get(row["skintone_base_hexcode"], ""),
            str(row["skintone"]),
            codepoints(row["skintone_base_hexcode"]),
        )
        for row in rows
    ]


def choose(concepts: Iterable[Concept], drawn: dict[str, set[str]]) -> list[Concept]:
    """The concepts of the embedded data.

    Args:
        concepts: all of OpenMoji's.
        drawn: for each style the codes that it draws.
    """
    everywhere = set.intersection(*(drawn[style] for style in ("noto", "twemoji", HELD_OUT_STYLE)))
    concepts = [concept for concept in concepts if concept.code in everywhere]
    toned = {concept.code for concept in concepts if concept.name in TONES}
    return [concept for concept in concepts if _is_wanted(concept, toned)]


def _is_wanted(concept: Concept, toned: set[str]) -> bool:
    if concept.group.startswith("extras-"):
        return False
    if concept.group != "people-body":
        return _region(concept) not in COPIED_FLAGS
    if concept.skintone:
        return concept.base in toned and concept.skintone in set("12345")
    return concept.subgroup in PEOPLE and not concept.name.endswith(": facing right")


def _region(concept: Concept) -> str:
    if concept.subgroup != "country-flag":
        return ""
    return "".join(chr(int(part, 16) - 0x1F1E6 + ord("A")) for part in concept.code.split("-"))


def styles(concept: Concept, drawn: dict[str, set[str]]) -> list[str]:
    """The training styles with a freely licensed drawing of the concept."""
    parts = set(concept.code.split("-"))
    technologist = "200d" in parts and "1f4bb" in parts
    fluent = not (concept.is_country_flag or technologist or parts & NOT_FLUENT_PARTS)
    return [style for style in TRAINING_STYLES if concept.code in drawn[style] and (fluent or style != "fluent")]


def split(concepts: Iterable[Concept], drawn: dict[str, set[str]]) -> dict[str, list[tuple[Concept, str]]]:
    """(concept, style) samples of each part, in a fixed order that mixes subgroups and styles."""
    parts: dict[str, list[tuple[Concept, str]]] = {"train": [], "val": [], "test": [], "concepts": []}
    for members in _subgroups(concepts):
        held_out = round(HELD_OUT_SHARE * len(members))
        for concept in members[:held_out]:
            parts["concepts"] += [(concept, style) for style in (*styles(concept, drawn), HELD_OUT_STYLE)]
        for place, concept in enumerate(members[held_out:]):
            parts["train"] += [(concept, style) for style in _rotated(styles(concept, drawn), place, concept)]
        _add_evaluation(parts, members[held_out:])
    return {part: sorted(samples, key=_shuffled) for part, samples in parts.items()}


def _subgroups(concepts: Iterable[Concept]) -> list[list[Concept]]:
    groups = defaultdict(list)
    for concept in concepts:
        groups[concept.group, concept.subgroup].append(concept)
    return [sorted(groups[key], key=lambda concept: concept.rank) for key in sorted(groups)]


def _rotated(available: list[str], place: int, concept: Concept) -> list[str]:
    if concept.is_country_flag:
        return [available[place % 2]]
    return [style for style in available if style != TRAINING_STYLES[place % 3]] if len(available) == 3 else available


def _add_evaluation(parts: dict[str, list[tuple[Concept, str]]], members: list[Concept]) -> None:
    """Skin tones belong to the part of their base, so that the five siblings compete in one part."""
    for concept in members:
        place = int(hashlib.sha256(f"part {concept.base or concept.code}".encode()).hexdigest()[:8], 16) / 2**32
        if place < TEST_SHARE + VAL_SHARE:
            parts["test" if place < TEST_SHARE else "val"].append((concept, HELD_OUT_STYLE))


def _shuffled(sample: tuple[Concept, str]) -> str:
    return hashlib.sha256(f"{sample[1]} {sample[0].code}".encode()).hexdigest()
