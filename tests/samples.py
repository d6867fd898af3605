"""Small shards in img2dataset's layout, made for one test each."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, size: int = 48, format: str = "JPEG") -> bytes:
    """A picture that differs for every number: coarse random colours, which survive JPEG."""
    colours = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((size, size), Image.Resampling.NEAREST).save(buffer, format)
    return buffer.getvalue()


def sample(number: int, **changes: bytes | None) -> dict[str, bytes]:
    """Members of one sample by extension; `changes` replaces or (None) removes one."""
    caption = f"picture number {number}"
    members = {
        "jpg": picture(number),
        "txt": caption.encode(),
        "json": json.dumps({"caption": caption, "captions": [caption, f"no. {number}"], "url": f"u{number}"}).encode(),
    }
    return {ext: data for ext, data in (members | changes).items() if data is not None}


def write_tar(path: Path, samples: list[tuple[str, dict[str, bytes]]], format: int = tarfile.USTAR_FORMAT) -> Path:
    """One shard; keys may repeat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for key, members in samples:
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def write_shards(folder: Path, counts: list[int], first: int = 0) -> list[Path]:
    """Shards 00000.tar ... with `counts` good samples each."""
    shards, number = [], first
    for shard, count in enumerate(counts):
        entries = [(f"{shard:05d}{n:04d}", sample(number + n)) for n in range(count)]
        shards.append(write_tar(folder / f"{shard:05d}.tar", entries))
        number += count
    return shards


def open_files() -> int:
    """Number of open files of this process."""
    return len(os.listdir("/proc/self/fd"))
