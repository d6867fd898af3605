"""Writes directories in clip-benchmark's format (clip_benchmark/webdataset_builder.py)."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.samples import picture, write_tar

NAMES = ["cat", "red fox", "owl", "hen", "cow", "eel"]
TEMPLATES = ["a photo of a {c}.", "the {c}"]
LABELS = [n % 6 for n in range(26)]
CAPTIONS = [["one hen", "two hens", "a bird"], ["an owl"], ["a cow", "cattle"], ["an eel"], ["cats", "a cat"]]


def write_split(folder: Path, split: str, samples: Sequence[dict[str, bytes]], per_shard: int) -> None:
    """SPLIT/0.tar and so on with keys s0000000, and nshards.txt."""
    shards = [samples[first : first + per_shard] for first in range(0, len(samples), per_shard)]
    for number, members in enumerate(shards):
        begin = number * per_shard
        write_tar(folder / split / f"{number}.tar", [(f"s{begin + n:07d}", one) for n, one in enumerate(members)])
    (folder / split / "nshards.txt").write_text(f"{len(shards)}\n")


def write_classification(
    folder: Path, names: Sequence[str], templates: Sequence[str], splits: dict[str, list[int]], extension: str = "webp"
) -> Path:
    """A classification set; a picture shows the colours of its number, and its label is in `splits`."""
    number = 0
    for split, labels in splits.items():
        samples = []
        for label in labels:
            samples.append({extension: encoded(number, extension), "cls": str(label).encode()})
            number += 1
        write_split(folder, split, samples, per_shard=11)  # more than ten shards sort wrongly as text
    (folder / "classnames.txt").write_text("\n".join(names) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(templates) + "\n")
    return folder


def write_retrieval(folder: Path, captions: Sequence[Sequence[str]], extension: str = "jpg") -> Path:
    """A retrieval set with several captions a picture."""
    samples = [{extension: encoded(n, extension), "txt": "\n".join(one).encode()} for n, one in enumerate(captions)]
    write_split(folder, "test", samples, per_shard=3)
    (folder / "dataset_type.txt").write_text("retrieval\n")
    return folder


def encoded(number: int, extension: str) -> bytes:
    """The picture of a number, lossless except as jpg, as clip-benchmark writes it."""
    if extension == "jpg":
        return picture(number, 32)
    buffer = io.BytesIO()
    options = {"lossless": True} if extension == "webp" else {}
    Image.open(io.BytesIO(picture(number, 32))).save(buffer, extension, **options)
    return buffer.getvalue()


def write_both(folder: Path) -> list[dict[str, Any]]:
    """A classification and a retrieval set, and lines of a configuration that evaluate them and the part `val`."""
    splits = {"test": LABELS, "train": [n % 6 for n in range(60)]}
    fine = write_classification(folder / "wds_fine", NAMES, TEMPLATES, splits, "png")
    found = write_retrieval(folder / "wds_found", CAPTIONS, "png")
    return [
        {"kind": "zeroshot", "name": "fine", "path": str(fine)},
        {"kind": "probe", "name": "fine", "path": str(fine)},
        {"kind": "retrieval", "name": "found", "path": str(found)},
        {"kind": "retrieval", "name": "val", "part": "val", "captions": "captions"},
    ]
