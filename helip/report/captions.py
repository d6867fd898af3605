"""Turns any caption into text that matplotlib draws without an error, a warning or a broken layout."""

import bisect
import functools
import unicodedata
from collections.abc import Callable

from matplotlib import font_manager

# Outline fonts of wide coverage, tried in this order after matplotlib's own. Colour emoji fonts hold bitmaps, which Agg
# cannot draw.
FALLBACKS = (
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Sans Symbols2",
    "Arial Unicode MS",
    "PingFang SC",
    "Microsoft YaHei",
    "Segoe UI",
    "FreeSans",
    "Unifont",
)
MISSING = "\N{WHITE SQUARE}"
JOINERS = "\u200c\u200d"
LONGEST = 400  # characters that are used; more than the caption of a thumbnail shows


@functools.cache
def font_families() -> list[str]:
    """Font families for matplotlib: DejaVu Sans, which it contains, and the installed ones of `FALLBACKS`."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]


@functools.cache
def _covered() -> frozenset[int]:
    """Code points that at least one of the families has."""
    paths = [font_manager.findfont(name) for name in font_families()]
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))


def drawable(text: str) -> str:
    """`text` on one line, without control and direction characters.

    A run of characters that no font has (a word in a script without a font, an emoji sequence) is one white square.
    """
    out: list[str] = []
    for char in unicodedata.normalize("NFC", text[:LONGEST]):
        category = unicodedata.category(char)
        if char.isspace():
            char = " "
        elif category[0] == "C" or "\ufe00" <= char <= "\ufe0f":  # control, format, surrogate, unassigned; variation
            continue
        elif ord(char) not in _covered():
            char = MISSING
        if not (char in (" ", MISSING) and out and out[-1] == char):
            out.append(char)
    return "".join(out).strip()


def readable(text: str, longest: int = 240) -> str:
    """`text` for a page: on one line, cut to `longest` characters, without control and direction characters.

    Joiners stay, because emoji sequences need them. The result can be encoded; the template escapes it.
    """
    looked = unicodedata.normalize("NFC", text[: 4 * longest])
    kept = "".join(
        " " if char.isspace() else char
        for char in looked
        if char in JOINERS or char.isspace() or unicodedata.category(char)[0] != "C"
    )
    line = " ".join(kept.split())
    return line if len(line) <= longest and len(text) <= 4 * longest else line[: longest - 1].rstrip() + "…"


def wrapped(text: str, width: float, lines: int, measure: Callable[[str], float]) -> list[str]:
    """At most `lines` lines, none wider than `width` by `measure`; an ellipsis ends a text that is too long.

    Words that are wider than a line are broken.
    """
    words, out = text.split(), []
    while words:
        line = ""
        while words and measure(longer := f"{line} {words[0]}".strip()) <= width:
            line = longer
            words.pop(0)
        if not line:  # a word wider than the line
            cut = max(1, _fitting(words[0], width, measure))
            line, words[0] = words[0][:cut], words[0][cut:]
        out.append(line)
        if len(out) == lines and words:
            rest = f"{line} {words[0]}"
            return [*out[:-1], rest[: _fitting(rest, width - measure("…"), measure)].rstrip(" ,.;:") + "…"]
    return out


def _fitting(text: str, width: float, measure: Callable[[str], float]) -> int:
    """How many first characters of `text` fit in `width`, by bisection."""
    return bisect.bisect_right(range(1, len(text) + 1), width, key=lambda n: measure(text[:n]))
