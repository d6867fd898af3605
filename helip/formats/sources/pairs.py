"""Folders with `NAME.jpg` and `NAME.txt` side by side, and what img2dataset writes with --output_format files."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from helip.formats.sources import ImageFile, Item, LeftOut, Options, as_captions, chosen, damaged_text, passed_over

LOOKED_AT = 10_000  # files among which one pair must be, so that a folder of something else is told quickly


@dataclass
class PairsSource:
    """A pair for each name, folder by folder in the order of names."""

    root: Path
    downloaded: bool
    caption: str | None = None
    warnings: list[str] = field(default_factory=list[str])

    @property
    def kind(self) -> str:
        what = "img2dataset's files" if self.downloaded else "a folder of pairs"
        return f"{what}: NAME.jpg (or another picture) with NAME.txt beside it"

    @property
    def files(self) -> list[Path]:
        return [Path(folder) for folder, _, _ in os.walk(self.root)]

    def items(self, scratch: Path) -> Iterator[Item]:
        spare = 0
        for stem, files in _by_stem(self.root):
            image, caption, metadata = chosen(files)
            if image is None and caption is None:
                continue
            spare += passed_over(files)
            yield _item(stem, image, caption, metadata, self.caption)
        if spare:
            self.warnings = [f"{spare:,} files were passed over, because another picture or text has the same name"]


def _item(stem: Path, image: Path | None, text: Path | None, metadata: Path | None, named: str | None) -> Item:
    where = str(image or text)
    try:
        fields = _object(metadata) if metadata else {}
        captions = [text.read_text(encoding="utf-8-sig")] if text and named is None else fields.get(named or "caption")
    except (OSError, ValueError) as error:
        return damaged_text(where, error)
    if (status := fields.get("status", "success")) != "success":
        return Item(where, None, problem=LeftOut(str(status), f"img2dataset says {status}", expected=True))
    return Item(where, ImageFile(image) if image else None, as_captions(captions), {"url": stem.name, **fields})


def _object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _by_stem(root: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Files by what their names begin with, up to the last dot."""
    for folder, below, names in os.walk(root):
        below.sort()
        groups: dict[str, dict[str, Path]] = {}
        for name in sorted(names):
            stem, dot, suffix = name.rpartition(".")
            if dot and stem:
                groups.setdefault(stem, {})[suffix.lower()] = Path(folder, name)
        for stem in sorted(groups):
            yield Path(folder, stem), groups[stem]


def recognise(path: Path, options: Options) -> PairsSource | None:
    if not path.is_dir():
        return None
    for _, files in islice(_by_stem(path), LOOKED_AT):
        image, text, metadata = chosen(files)
        if image and (text or (metadata and options.columns.get("caption"))):
            downloaded = any(path.glob("*_stats.json"))
            return PairsSource(path, downloaded, options.columns.get("caption"))
    return None
