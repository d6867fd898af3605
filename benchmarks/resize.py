"""What `helip convert resize` saves: read, decode and transform of a pair from the originals and from the copy.

    python -m benchmarks.resize OUT --shards 'DIR/{00000..00007}.tar'

The originals are real photos, enlarged to 512 pixels on their shorter side (bicubic, JPEG quality 90) where they are
smaller, so a decoder meets photos of that size with less detail than a camera's. Encoders are left out. CPU time of
this process alone, interleaved; a transform's random numbers are the same on both sides. Prints a table, writes
OUT/resize.json.
"""

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import open_clip
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.rig import environment, spread
from helip.artifacts.datasets import resolve_shards
from helip.artifacts.members import IMAGE
from helip.artifacts.shards import ShardIndex
from helip.data.byte_transforms import split_still, split_transform
from helip.data.reader import SampleReader
from helip.data.transforms import ImageTransform, decode_image, draft_size
from helip.formats.pixels import Pixels, PixelTask, write_smaller
from helip.formats.resize import resize
from helip.storage.schemes import Storages
from tests.samples import write_tar


def write_originals(folder: Path, shards: str, count: int, side: int) -> ShardIndex:
    """The first `count` pairs of real shards, enlarged, as one shard."""
    photos = SampleReader(ShardIndex.build(resolve_shards(shards)))
    samples = []
    for row in range(count):
        raw = photos.read(row)
        members = {"jpg": enlarged(raw.image, side), "txt": raw.captions[0].encode()}
        samples.append((f"{row:09d}", members))
    return ShardIndex.build([write_tar(folder / "originals/00000.tar", samples)])


def enlarged(data: bytes, side: int) -> bytes:
    """A JPEG with `side` pixels on its shorter side."""
    image, buffer = decode_image(data), io.BytesIO()
    scale = max(1.0, side / min(image.size))
    size = [max(side, round(length * scale)) for length in image.size]
    image.resize((size[0], size[1]), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def visits(index: ShardIndex, size: int) -> dict[str, Callable[[int], torch.Tensor]]:
    """What a worker does for one row: when it embeds, and when it trains (draft decoding, a random crop)."""
    reader = SampleReader(index)
    evaluating, training = (
        cast(ImageTransform, open_clip.image_transform(size, is_train)) for is_train in (False, True)
    )
    still, _ = split_still(evaluating)
    (crop, _), draft = split_transform(training), draft_size(training)
    return {
        "embedding": lambda row: still(decode_image(reader.read(row).image)),
        "training": lambda row: crop(decode_image(reader.read(row).image, draft), row),
    }


def cpu_microseconds(visit: Callable[[int], torch.Tensor], count: int) -> float:
    """Of one row."""
    began = time.process_time()
    for row in range(count):
        visit(row)
    return (time.process_time() - began) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", required=True, help="of real photos")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--originals", type=int, default=512, help="pixels of their shorter side")
    parser.add_argument("--side", type=int, default=256, help="pixels of the copy's shorter side")
    parser.add_argument("--size", type=int, default=224, help="pixels of the model's side")
    args = parser.parse_args()
    torch.set_num_threads(1)
    before = write_originals(args.folder, args.shards, args.count, args.originals)
    began = time.process_time()
    write_smaller(PixelTask(args.folder, before.shards[0], before.offset[:, IMAGE], Pixels(args.side), Storages()))
    conversion = (time.process_time() - began) / args.count * 1e6
    resize(str(before.shards[0]), args.folder / "resized", Pixels(args.side))
    after = ShardIndex.build(args.folder / "resized")
    kinds = {"originals": visits(before, args.size), "resized": visits(after, args.size)}
    found: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in kinds["resized"]} for kind in kinds}
    for _ in range(args.runs):
        for name in kinds["resized"]:
            for kind, calls in kinds.items():
                found[kind][name].append(cpu_microseconds(calls[name], args.count))
    report(args, before, after, found, conversion)


def report(
    args: argparse.Namespace,
    before: ShardIndex,
    after: ShardIndex,
    found: dict[str, dict[str, list[float]]],
    conversion: float,
) -> None:
    """The table on the screen and as JSON."""
    table = Table("microseconds of CPU per pair", "originals", "resized", "times (each run)")
    for name, values in found["originals"].items():
        times = [old / new for old, new in zip(values, found["resized"][name], strict=True)]
        medians = (f"{spread(found[kind][name])['median']:,.0f}" for kind in found)
        table.add_row(name, *medians, ", ".join(f"{value:.2f}" for value in times))
    console = Console(highlight=False)
    console.print(table)
    sizes = [int(index.shard_bytes.sum()) for index in (before, after)]
    console.print(f"conversion {conversion:,.0f} us per pair; {sizes[0]:,} bytes became {sizes[1]:,}")
    facts = {"cpu_microseconds": found, "conversion": conversion, "bytes": sizes, "environment": environment()}
    settings = {name: getattr(args, name) for name in ("count", "runs", "originals", "side", "size")}
    (args.folder / "resize.json").write_text(json.dumps(facts | {"settings": settings}, indent=1))


if __name__ == "__main__":
    main()
