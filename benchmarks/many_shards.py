"""The cost of many shards and rows in a training: start-up, order, file handles, and memory of each loader worker.

    python -m benchmarks.many_shards OUT                    5,000 shards of 1,000 rows beside 50 shards
    python -m benchmarks.many_shards OUT --shards 200       a rough look

One real tar of tiny photos with hard links as its other shards, 20 random mined rows a target on disk, 256 file handles
allowed, four workers. Memory is what Linux calls private: pages that a worker shares with no other process. Prints a
table and writes OUT/many_shards.json.
"""

import argparse
import io
import json
import os
import resource
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.rig import environment
from helip.artifacts.shards import ShardIndex
from helip.data.batch import pack
from helip.data.order import TargetOrder
from helip.data.partners import MinedPartners
from helip.data.pipeline import StepPositions, TrainingStream
from helip.data.plans.partners import PartnerPlan
from helip.data.reader import SampleReader
from helip.data.units import UnitReader

HANDLES, WORKERS, TARGETS, MINED = 256, 4, 64, 20


def write_links(folder: Path, shards: int, rows: int) -> list[Path]:
    """One tar of `rows` 32-px JPEGs with captions, under `shards` names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng, first = np.random.default_rng(0), folder / "00000.tar"
    with tarfile.open(first, "w") as tar:
        for row in range(rows):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "JPEG")
            for extension, data in (("jpg", buffer.getvalue()), ("txt", f"photo number {row}".encode())):
                member = tarfile.TarInfo(f"{row:09d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    paths = [first, *(folder / f"{shard:05d}.tar" for shard in range(1, shards))]
    for path in paths[1:]:
        os.link(first, path)
    return paths


def repeated(one: ShardIndex, paths: list[Path]) -> ShardIndex:
    """The index that a scan of many links to one tar would build, without the minutes of that scan."""
    count = len(paths)
    return ShardIndex(
        [path.absolute() for path in paths],
        np.tile(one.shard_bytes, count),
        np.arange(count + 1, dtype=np.int64) * len(one),
        np.tile(one.offset, (count, 1)),
        np.tile(one.size, (count, 1)),
        pa.chunked_array([one.keys] * count).combine_chunks(),
        [f"{one.shard_fingerprints[0]}-{number}" for number in range(count)],
    )


def write_mined(path: Path, count: int) -> np.ndarray:
    """(count, MINED) random rows as a memory map."""
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, "w+", np.int32, (count, MINED))
    for start in range(0, count, 1 << 18):
        block = rows[start : start + (1 << 18)]
        block[:] = rng.integers(0, count, block.shape, np.int32)
    rows.flush()
    return np.load(path, mmap_mode="r")


def tokenize(captions: list[str]) -> torch.Tensor:
    """(n, 32) bytes: the tables of a real tokenizer would hide the memory of the rows."""
    return torch.tensor([list(caption.encode()[:32].ljust(32, b"\0")) for caption in captions])


def timed(found: dict[str, float], name: str, call: Callable[[], Any]) -> Any:
    """The result of a call; its seconds go into `found`."""
    began = time.perf_counter()
    result = call()
    found[f"{name}, s"] = time.perf_counter() - began
    return result


def private_bytes(process: int) -> int:
    """Bytes of memory that a process shares with no other."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def measure(folder: Path, shards: int, rows: int, steps: int) -> dict[str, float]:
    """Everything for one number of shards."""
    found: dict[str, float] = {"shards": shards, "rows": shards * rows}
    paths = write_links(folder / "shards", shards, rows)
    repeated(ShardIndex.build(paths[:1]), paths).save(folder / "index")
    found["index: on disk, MB"] = sum(path.stat().st_size for path in (folder / "index").iterdir()) / 1e6
    index = timed(found, "index: open", lambda: ShardIndex.load(folder / "index"))
    mined = write_mined(folder / "mined.npy", len(index))
    partners = timed(found, "partners", lambda: MinedPartners(mined, index.valid, 1, 0, "drop", 1))
    order = timed(found, "order", lambda: TargetOrder(partners.eligible, index.starts, 0, 8))
    timed(found, "order: first target", lambda: order[0])
    began = time.perf_counter()
    for position in range(100_000):
        order[position]
    found["order: targets/s"] = 100_000 / (time.perf_counter() - began)

    transform = transforms.Compose([transforms.ToTensor()])
    read = UnitReader(SampleReader(index), PartnerPlan(order, partners, 2 * TARGETS), transform, tokenize, 0)
    stream = TrainingStream(StepPositions(0, steps, TARGETS, 0, 1), read)
    loader = DataLoader(stream, batch_size=None, num_workers=WORKERS, prefetch_factor=2, collate_fn=pack)
    batches = timed(found, "first batch", lambda: iter(loader))
    began = time.perf_counter()
    next(batches)
    found["first batch, s"] += time.perf_counter() - began
    for _ in range(steps - 1 - 2 * WORKERS):
        next(batches)
    own = [worker.pid for worker in batches._workers]
    found["file handles of a worker, most"] = max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in own)
    found["private memory of a worker, MB"] = max(private_bytes(pid) for pid in own) / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=1000, help="of a shard")
    parser.add_argument("--steps", type=int, default=200, help="batches of 64 targets and their partners")
    args = parser.parse_args()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (HANDLES, HANDLES))
    results = []
    for shards in (max(1, args.shards // 100), args.shards):
        results.append(measure(args.folder / str(shards), shards, args.rows, args.steps))
        shutil.rmtree(args.folder / str(shards))
    table = Table("", *(f"{result['shards']:,.0f} shards" for result in results))
    for name in results[0]:
        table.add_row(
            name, *(f"{result[name]:,.3g}" if result[name] < 1000 else f"{result[name]:,.0f}" for result in results)
        )
    Console(highlight=False).print(table)
    out = args.folder / "many_shards.json"
    out.write_text(json.dumps({"results": results, "environment": environment()}, indent=1))
    print(f"written: {out}")


if __name__ == "__main__":
    main()
