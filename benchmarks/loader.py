"""How fast pairs reach the model: the loader alone, what each part of a sample costs, and random reads beside `wids`.

    python -m benchmarks.loader OUT                            five interleaved runs, the photos of training.py
    python -m benchmarks.loader OUT --side 512 --size 224      larger photos and a larger model

Random reads are what partners cost: any row of any shard, undecoded, from a warm page cache. One thread per process.
Prints a table and writes OUT/loader.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision.io import decode_jpeg

from benchmarks.rig import MODEL, environment, install_rivals, spread, write_model, write_photos
from helip.artifacts.shards import ShardIndex
from helip.data.batch import pack
from helip.data.order import TargetOrder
from helip.data.partners import MinedPartners
from helip.data.pipeline import StepPositions, TrainingStream, collate
from helip.data.plans.partners import PartnerPlan
from helip.data.reader import SampleReader, content_digest
from helip.data.transforms import decode_image, draft_size, seeded_transform
from helip.data.units import UnitReader

BATCH = 64
# Run in a process that sees wids and the webdataset it needs: prints random reads per second.
WIDS = """
import json, sys, time, random
import wids
folder, tries, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
sizes = json.load(open(folder + "/sizes.json"))
shards = [{"url": f"{folder}/{name}", "nsamples": count} for name, count in sizes.items()]
options = json.loads(sys.argv[4])
if options.pop("local", False):
    options["localname"] = lambda url: url
data = wids.ShardListDataset(shards, transformations=[], keep=True, **options)
random.seed(0)
rows = [random.randrange(len(data)) for _ in range(tries)]
data[rows[0]]
began, done = time.perf_counter(), 0
for row in rows:
    sample = data[row]
    sample[".jpg"].read(), sample[".txt"].read()
    done += 1
    if time.perf_counter() - began > seconds:
        break
print(done / (time.perf_counter() - began))
"""


def open_clip_transform(size: int) -> Any:
    """The training transform of a model that takes images of `size` pixels."""
    return open_clip.image_transform(size, is_train=True)


def unit_reader(index: ShardIndex, model: Path, hard: bool, size: int) -> UnitReader:
    """The training stream's reader with open_clip's transforms; hard: 20 random rows stand for mined ones."""
    transform = open_clip_transform(size)
    valid, partners = np.ones(len(index), bool), None
    if hard:
        rows = np.random.default_rng(0).integers(0, len(index), (len(index), 20), dtype=np.int32)
        partners = MinedPartners(rows, valid, 1, 0, "drop", 1)
    order = TargetOrder(valid, index.starts, 0, 8)
    tokenize = open_clip.get_tokenizer(f"local-dir:{model}")
    draft = draft_size(transform)
    plan = PartnerPlan(order, partners, BATCH)
    return UnitReader(SampleReader(index), plan, transform, tokenize, 0, draft=draft)  # type: ignore[arg-type]


def stream_rate(read: UnitReader, workers: int, steps: int) -> float:
    """Pairs per second that leave the loader, without the start of its workers."""
    positions = StepPositions(0, steps + 4, read.units, 0, 1)
    loader = iter(
        DataLoader(
            TrainingStream(positions, read),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            collate_fn=pack,
        )
    )
    for _ in range(4):
        next(loader)
    began = time.perf_counter()
    for _ in range(steps):
        next(loader)
    return steps * BATCH / (time.perf_counter() - began)


def part_costs(read: UnitReader, theirs: Callable[[Any], Any], count: int) -> dict[str, float]:
    """Microseconds per pair of each part of the loader, one after the other in this process."""
    raws = [read.reader.read(row) for row in range(count)]
    images = [decode_image(raw.image, read.draft) for raw in raws]
    raw_bytes = [torch.frombuffer(bytearray(raw.image), dtype=torch.uint8) for raw in raws]
    units = [read(position) for position in range(32)]

    def each(call: Callable[[int], Any]) -> float:
        began = time.process_time()  # of this process alone, which neighbours on a shared machine disturb least
        for position in range(count):
            call(position)
        return (time.process_time() - began) / count * 1e6

    pairs = sum(1 + len(unit.slots) for unit in units)
    return {
        "order": each(lambda i: read.plan.target(*divmod(i, read.units))),
        "read": each(lambda i: read.reader.read(i)),
        "decode": each(lambda i: decode_image(raws[i].image, read.draft)),
        "decode, every pixel": each(lambda i: decode_image(raws[i].image)),
        "decode by torchvision": each(lambda i: decode_jpeg(raw_bytes[i])),
        "crop to bytes": each(lambda i: read.transform(images[i], i)),
        "crop and normalise by open_clip": each(lambda i: seeded_transform(theirs, images[i], i)),
        "tokenize": each(lambda i: read.tokenize([raws[i].captions[0]])),
        "digests": each(lambda i: (content_digest(raws[i].image), content_digest(raws[i].captions[0]))),
        "collate and pack": each(lambda i: pack(collate(units)) if i % pairs == 0 else None),
        "whole": each(lambda i: read(i)) / read.plan.unit,
    }


def our_reads(index: ShardIndex, tries: int) -> float:
    """Random undecoded reads per second."""
    reader = SampleReader(index)
    rows = np.random.default_rng(0).integers(0, len(index), tries).tolist()
    reader.read(rows[0])
    began = time.perf_counter()
    for row in rows:
        reader.read(row)
    return tries / (time.perf_counter() - began)


def wids_reads(photos: Path, rivals: Path, tries: int, seconds: float, **options: Any) -> float:
    """The same through wids.ShardListDataset."""
    command = (sys.executable, "-c", WIDS, str(photos), str(tries), str(seconds), json.dumps(options))
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(rivals)}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"wids failed: {done.stderr[-400:]}")
    return float(done.stdout.split()[-1])


def measure(folder: Path, runs: int, side: int, size: int, steps: int) -> dict[str, dict[str, dict[str, float]]]:
    """Interleaved: block -> name -> spread."""
    photos, (_, model), rivals = write_photos(folder, side=side), write_model(folder, MODEL), install_rivals(folder)
    index = ShardIndex.build(sorted(photos.glob("*.tar")))
    theirs = open_clip_transform(size)
    plain, hard = unit_reader(index, model, hard=False, size=size), unit_reader(index, model, hard=True, size=size)
    calls: dict[str, dict[str, Callable[[], float]]] = {
        "pairs per second of the loader": {
            f"{'with' if read is hard else 'without'} hard pairs, {workers} workers": partial(
                stream_rate, read, workers, steps
            )
            for workers in (0, 1, 2)
            for read in (plain, hard)
        },
        "random reads per second": {
            "helip": lambda: our_reads(index, 5000),
            "wids, its defaults": lambda: wids_reads(photos, rivals, 5000, 5.0),
            "wids, local files": lambda: wids_reads(photos, rivals, 5000, 5.0, local=True),
        },
    }
    found: dict[str, dict[str, list[float]]] = {block: {name: [] for name in names} for block, names in calls.items()}
    parts: dict[str, list[float]] = {}
    for run in range(runs):
        for block, names in calls.items():
            for name, call in names.items():
                found[block][name].append(call())
        for name, cost in part_costs(hard, theirs, 256).items():
            parts.setdefault(name, []).append(cost)
        print(f"run {run + 1} of {runs}", flush=True)
    found["microseconds per pair"] = parts
    return {block: {name: spread(values) for name, values in names.items()} for block, names in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--side", type=int, default=256, help="pixels of a synthetic photo's side")
    parser.add_argument("--size", type=int, default=64, help="pixels of the model's side")
    parser.add_argument("--steps", type=int, default=12, help="batches of 64 pairs per measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.folder.absolute()
    result = measure(folder, args.runs, args.side, args.size, args.steps)
    console = Console(highlight=False)
    for title, block in result.items():
        table = Table("", "median", "min", "max", title=title)
        for name, value in block.items():
            table.add_row(name, *(f"{value[part]:,.0f}" for part in ("median", "min", "max")))
        console.print(table)
    out = folder / ("loader.json" if (args.side, args.size) == (256, 64) else f"loader-{args.side}-{args.size}.json")
    out.write_text(
        json.dumps({"blocks": result, "side": args.side, "size": args.size, "environment": environment()}, indent=1)
    )
    print(f"written: {out}")


if __name__ == "__main__":
    main()
