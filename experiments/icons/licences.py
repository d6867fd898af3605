"""ATTRIBUTION.md beside the shards: the authors of the icons, their licences, and what was changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import atomic_file

HEAD = """# Where the icons come from

Every image is an adaptation of an icon of the npm package @iconify/json: drawn at 32x32 pixels, black on white where
the icon has no colour of its own, saved as PNG. Each sample's JSON names its set (`set`), the icon (`id`), the licence
(`licence`, by its SPDX identifier) and where the drawing can be had (`url`). The captions are the words of the icons'
names. `build.json` says which package and which versions of the software made the images.

The licence of a set holds for its icons here too. The texts are at the links; those of CC BY ask that whoever passes
the icons on names the author, the licence and that the icons were changed.

| set | icons | name | author | licence |
|---|---:|---|---|---|
"""


def write_attribution(out: Path, about: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int]) -> None:
    """Write ATTRIBUTION.md.

    Args:
        out: folder of the shards.
        about: set -> its entry in collections.json.
        counts: set -> its icons in the shards; sets without any are left out.
    """
    lines = [_line(name, about[name], counts[name]) for name in sorted(about) if counts.get(name)]
    with atomic_file(out / "ATTRIBUTION.md") as temporary:
        temporary.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def _line(name: str, about: Mapping[str, Any], count: int) -> str:
    licence = about["license"]
    author = _link(about["author"]["name"], about["author"].get("url"))
    named = _link(f"{licence['title']} ({licence['spdx']})", licence.get("url"))
    return f"| `{name}` | {count:,} | {about['name']} | {author} | {named} |"


def _link(text: str, url: str | None) -> str:
    return f"[{text}]({url})" if url else text
