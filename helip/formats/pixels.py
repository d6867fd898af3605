"""Resizes the pictures of one shard; the bytes depend only on the shard, the settings and Pillow's version."""

import io
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from helip.artifacts.atomic import atomic_file, write_json
from helip.artifacts.tar import TarError, bytes_of, printable, walk
from helip.data.reader import Unreadable
from helip.data.transforms import decode_image
from helip.formats.resumable import finished, stats_path
from helip.storage.base import Shard
from helip.storage.schemes import Storages

SUBSAMPLING = "4:2:0"  # img2dataset's, and the quickest to decode
RESIZED, SMALL, BROKEN = "resized", "small enough", "not readable"


@dataclass(frozen=True)
class Pixels:
    """How pictures are resized.

    Attributes:
        side: pixels of the shorter side; a picture that is not larger is copied byte for byte.
        quality: JPEG quality, as Pillow defines it.
    """

    side: int
    quality: int = 95  # img2dataset's

    def described(self) -> dict[str, Any]:
        """Everything that the bytes of a resized picture depend on, JSON-like."""
        versions = {"pillow": Image.__version__, "jpeg": features.version("libjpeg_turbo") or features.version("jpg")}
        return {"side": self.side, "quality": self.quality, "subsampling": SUBSAMPLING, "filter": "bicubic", **versions}

    def smaller(self, data: bytes) -> bytes | None:
        """The picture as a JPEG whose shorter side is `side`; None if it is not larger. Raises Unreadable."""
        image = decode_image(data)
        shorter = min(image.size)
        if shorter <= self.side:
            return None
        width, height = (max(self.side, round(length * self.side / shorter)) for length in image.size)
        buffer = io.BytesIO()
        image.resize((width, height), Image.Resampling.BICUBIC).save(
            buffer, "JPEG", quality=self.quality, subsampling=SUBSAMPLING
        )
        return buffer.getvalue()


@dataclass(frozen=True)
class PixelTask:
    """One shard to resize into `folder`; `images` are the (n,) offsets of the images of its rows."""

    folder: Path
    shard: Shard
    images: np.ndarray
    pixels: Pixels
    storages: Storages  # of the process that created the task


def write_smaller(task: PixelTask) -> dict[str, Any]:
    """Write NAME.tar and NAME_stats.json: all members in order, with the images of rows resized.

    A resized image is a JPEG and its suffix ends in jpg or jpeg; all other members are copied.

    Returns:
        The statistics: `successes`, the number of rows with an image; `images`, the number by outcome; `problem`, why
        the shard ends early, or null.
    """
    stem = task.shard.stem
    if there := finished(task.folder, stem):
        return there
    data = bytes_of(task.storages.of(task.shard), task.shard)
    outcomes, images, problem = Counter[str](), set(task.images.tolist()), None
    with (
        atomic_file(task.folder / f"{stem}.tar") as temporary,
        tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as tar,
    ):
        try:
            for name, offset, size in walk(data):
                content = bytes(data[offset : offset + size])
                if offset in images:
                    outcome, name, content = _smaller_member(task.pixels, name, content)
                    outcomes[outcome] += 1
                _add(tar, name, content)
        except TarError as error:
            problem = f"{printable(task.shard.name)} is damaged: {error}"
    facts = {"successes": outcomes.total(), "images": dict(outcomes), "problem": problem}
    write_json(stats_path(task.folder, stem), facts)
    return facts


def _smaller_member(pixels: Pixels, name: str, content: bytes) -> tuple[str, str, bytes]:
    """The outcome, name and bytes of an image."""
    try:
        smaller = pixels.smaller(content)
    except Unreadable:
        return BROKEN, name, content
    if smaller is None:
        return SMALL, name, content
    if not name.lower().endswith((".jpg", ".jpeg")):
        name = f"{name.rpartition('.')[0]}.jpg"
    return RESIZED, name, smaller


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # no time, no owner
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
