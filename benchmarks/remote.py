"""What remote shards cost: bytes fetched and pairs per second of each plan, beside local files.

    python -m benchmarks.remote OUT                     32 shards of 50 pairs, a cache of a quarter of them, 20 ms

An epoch of pairs for no partners, mined partners and graph plan: read, decoded and batched in one process, from local
files, and over HTTP from a server of this machine that answers after 20 ms, with and without prefetching. A picture is
a JPEG filled up to 50 kB; hard pairs are any other rows. Prints JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rig import environment
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.pipeline import StepPositions, TrainingStream
from helip.data.plans.contract import BatchPlan, PlanData
from helip.data.plans.graph import GraphSettings
from helip.data.plans.partners import PartnersSettings
from helip.data.reader import SampleReader
from helip.data.units import UnitReader
from helip.storage import remote
from tests.data.streams import tokenize
from tests.samples import picture, sample, write_tar
from tests.storage.server import serving

SHARDS, ROWS, PICTURE, BATCH, WINDOW = 32, 50, 50_000, 40, 4
PLANS = ("no partners", "partners", "graph")
AHEAD = remote.AHEAD


def write_data(folder: Path) -> None:
    """Written once; every picture is followed by noise, which a decoder does not look at."""
    noise = np.random.default_rng(0)
    for shard in range(SHARDS):
        path = folder / f"{shard:05d}.tar"
        numbers = range(shard * ROWS, (shard + 1) * ROWS)
        if not path.exists():
            padded = {number: picture(number, 224).ljust(PICTURE // 2, b"\0") for number in numbers}
            write_tar(path, [(f"{n:09d}", sample(n, jpg=padded[n] + noise.bytes(PICTURE // 2))) for n in numbers])


def plan_of(name: str, index: ShardIndex) -> BatchPlan:
    """On hard pairs in groups of 20 rows from anywhere in the data, each of which lists the others."""
    groups = np.random.default_rng(1).permutation(len(index)).reshape(-1, 20)
    lists = np.empty((len(index), 19), np.int32)
    for group in groups:
        for place, row in enumerate(group):
            lists[row] = np.delete(group, place)
    scores = np.ones_like(lists, np.float32)
    data = PlanData(
        index.valid, index.starts, BATCH, window=WINDOW, hard=HardPairIndex(lists, scores, scores, scores, {})
    )
    if name == "graph":
        return GraphSettings(19, 20).bind(data)
    return PartnersSettings("joint" if name == "partners" else "off", 19).bind(data)


def shrink(image: Any) -> torch.Tensor:
    """(3, 32, 32) uint8."""
    return torch.from_numpy(np.array(image.resize((32, 32)))).permute(2, 0, 1)


def epoch(name: str, place: str) -> dict[str, float]:
    """Pairs per second over one pass of all rows, the scan left out."""
    index = ShardIndex.build(place)
    read = UnitReader(SampleReader(index), plan_of(name, index), shrink, tokenize, 0)
    steps = len(index) // BATCH
    stream = iter(TrainingStream(StepPositions(0, steps, read.units, 0, 1), read))
    began = time.perf_counter()
    pairs = sum(len(batch["row"]) for batch in stream)
    return {"pairs": pairs, "pairs/s": pairs / (time.perf_counter() - began)}


def measured(name: str, place: str, cache: Path, limit: int, ahead: int) -> dict[str, float]:
    """An epoch in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.remote", str(cache), "--epoch", name, "--place", place]
    command += ["--limit", str(limit), "--ahead", str(ahead)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])


def compare(folder: Path, latency: float) -> dict[str, Any]:
    """Every plan from local files and over HTTP; the bytes are those behind the scan, which is measured by itself."""
    data = folder / "data"
    write_data(data)
    size = sum(path.stat().st_size for path in data.iterdir())
    limit = max(size // 4, 16 * remote.BLOCK)
    found: dict[str, Any] = {"bytes": size, "bytes of a pair": size / (SHARDS * ROWS), "cache": limit}
    pattern = f"{{00000..{SHARDS - 1:05d}}}.tar"
    with serving(data, latency=latency) as server:
        for name in PLANS:
            found[name] = {"local pairs/s": measured(name, str(data / pattern), folder / "none", limit, 0)["pairs/s"]}
            for ahead in (0, AHEAD):
                cache = folder / f"cache-{name.replace(' ', '-')}-{ahead}"
                before = server.sent
                result = measured(name, f"{server.url}/{pattern}", cache, limit, ahead)
                how = "prefetching" if ahead else "without prefetching"
                # the scan reads every shard once from beginning to end
                found[name][f"bytes per pair, {how}"] = (server.sent - before - size) / result["pairs"]
                found[name][f"pairs/s, {how}"] = result["pairs/s"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path, help="a folder for the shards and the caches")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds until the server answers")
    for inner in ("epoch", "place", "limit", "ahead"):  # of the processes that this one starts
        parser.add_argument(f"--{inner}", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.epoch:
        remote.keep_blocks(args.out, int(args.limit))
        remote.AHEAD = int(args.ahead)
        print(json.dumps(epoch(args.epoch, args.place)))
        return
    print(json.dumps({"remote": compare(args.out, args.latency), "environment": environment()}, indent=1))


if __name__ == "__main__":
    main()
