"""Writes one shard in img2dataset's layout from some items of a source; the bytes depend only on the items."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from webdataset.writer import TarWriter

from helip.artifacts.atomic import atomic_file, write_json
from helip.data.reader import Unreadable, clean_caption
from helip.data.transforms import decode_image
from helip.errors import HelipError
from helip.formats.resumable import finished, stats_path
from helip.formats.sources import Item, LeftOut

EXTENSIONS = ("jpg", "png", "webp", "gif", "bmp", "tiff")
SHOWN = 5  # skipped items per shard that are named
SUCCESS = "success"


@dataclass(frozen=True)
class ShardTask:
    """The items of shard `number`; a key is the shard number and the position in it, as in img2dataset."""

    folder: Path
    number: int
    items: Sequence[Item]
    digits: int
    on_error: str


def write_shard(task: ShardTask) -> dict[str, Any]:
    """Write NNNNN_stats.json, and NNNNN.tar if at least one item is a sample.

    Returns:
        The statistics: `count`, `successes`, `status_dict` with a number for each reason, and `left_out` sentences.

    Raises:
        HelipError: an item cannot become a sample and on_error is `fail`.
    """
    stem = f"{task.number:05d}"
    if there := finished(task.folder, stem):
        return there
    reasons: Counter[str] = Counter()
    shown: list[str] = []
    with (
        atomic_file(task.folder / f"{stem}.tar") as temporary,
        open(temporary, "wb") as file,
        TarWriter(file, user="", group="", encoder=False, mtime=0) as tar,
    ):
        for place, item in enumerate(task.items):
            key = f"{stem}{place:0{task.digits}d}"
            try:
                tar.write({"__key__": key, **_members(key, item)})
                reasons[SUCCESS] += 1
            except LeftOut as error:
                sentence = f"{item.where}: {error}"
                if task.on_error == "fail" and not error.expected:
                    raise HelipError(f"{sentence}; correct the source, or skip such pairs (--on-error skip)") from error
                reasons[error.reason] += 1
                shown += [sentence] if len(shown) < SHOWN else []
    if not reasons[SUCCESS]:
        (task.folder / f"{stem}.tar").unlink()
    facts = {"count": len(task.items), "successes": reasons[SUCCESS], "status_dict": dict(reasons), "left_out": shown}
    write_json(stats_path(task.folder, stem), facts)
    return facts


def _members(key: str, item: Item) -> dict[str, bytes]:
    """Contents of a sample by extension. Raises LeftOut."""
    if item.problem:
        raise item.problem
    captions = [clean for text in item.captions if isinstance(text, str) and (clean := clean_caption(text))]
    if not captions:
        raise LeftOut("no caption")
    if item.image is None:
        raise LeftOut("no image")
    image = item.image.read()
    if not image:
        raise LeftOut("no image", "its image is empty")
    try:
        extension = image_extension(image)
    except Unreadable as error:
        raise LeftOut("an image that cannot be decoded", str(error)) from error
    if extension not in EXTENSIONS:
        raise LeftOut("an image in a format that shards do not hold", f"its image is a {extension.upper()}")
    # fields of the source take precedence
    facts = {"key": key, "caption": captions[0], "status": SUCCESS, **item.fields}
    if len(captions) > 1:
        facts["captions"] = captions
    try:
        text = captions[0].encode("utf-8")
    except UnicodeError as error:
        raise LeftOut("a caption that is not UTF-8") from error
    return {extension: image, "txt": text, "json": json.dumps(facts, default=str).encode("utf-8")}


def image_extension(image: bytes) -> str:
    """The extension for the content of an image, such as jpg. Raises Unreadable if it cannot be decoded."""
    decode_image(image)
    with Image.open(io.BytesIO(image)) as opened:
        name = str(opened.format).lower()
    # MPO is a JPEG with a preview behind it, as some cameras write; readers of the first picture see a JPEG.
    return {"jpeg": "jpg", "mpo": "jpg"}.get(name, name)
