"""Folders with `NAME.jpg` and `NAME.txt` side by side, such as img2dataset writes with --output_format files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from helip.formats.sources import (
    ImageFile,
    Item,
    Options,
    Source,
    captions_and_fields,
    chosen,
    damaged_text,
    failed_download,
    passed_over,
)

LOOKED_AT = 10_000  # a folder without a pair among its first files has another layout


@dataclass
class PairsSource(Source):
    """A pair for each name, folder by folder in the order of names; `files` are the folders."""

    downloaded: bool
    caption: str | None

    @property
    def kind(self) -> str:
        what = "img2dataset's files" if self.downloaded else "a folder of pairs"
        return f"{what}: NAME.jpg (or another picture) with NAME.txt beside it"

    def items(self, scratch: Path) -> Iterator[Item]:
        spare = 0
        for stem, files in _by_stem(self.path):
            image, text, metadata = chosen(files)
            if image is None and text is None:
                continue
            spare += passed_over(files)
            yield _item(stem, image, text, metadata, self.caption)
        if spare:
            self.warnings = [f"{spare:,} files were passed over, because another picture or text has the same name"]


def _item(stem: Path, image: Path | None, text: Path | None, metadata: Path | None, caption: str | None) -> Item:
    where = str(image or text)
    try:
        words = text.read_text(encoding="utf-8-sig") if text and caption is None else None
        facts = metadata.read_text(encoding="utf-8") if metadata else None
        captions, fields = captions_and_fields(words, facts, caption)
    except (OSError, ValueError) as error:
        return damaged_text(where, error)
    if (status := fields.get("status", "success")) != "success":
        return failed_download(where, status)
    return Item(where, ImageFile(image) if image else None, captions, {"url": stem.name, **fields})


def _by_stem(root: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Files by the part of their names before the last dot."""
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
            folders = [Path(folder) for folder, _, _ in os.walk(path)]
            return PairsSource(folders, any(path.glob("*_stats.json")), options.columns.get("caption"))
    return None
