"""The cost of remote shards: bytes fetched and pairs per second of each plan, beside local files.

    python -m benchmarks.remote OUT                     32 shards of 50 pairs, a cache of a quarter of them, 20 ms

An epoch of pairs for no partners, mined partners and graph plan: read, decoded and batched in one process, from local
files, and over HTTP from a server of this machine that answers after 20 ms, with and without prefetching. A picture is
a JPEG filled up to 50 kB; hard pairs are any other rows. Prints JSON.
"""

import argparse
import json
import shutil
import time
from collections import OrderedDict
from multiprocessing import Pipe, get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.rig import environment
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.members import IMAGE, TEXT
from helip.artifacts.shards import ShardIndex
from helip.data.pipeline import StepPositions, TrainingStream
from helip.data.plans.contract import BatchPlan, PlanData, planned_step
from helip.data.plans.graph import GraphSettings
from helip.data.plans.partners import PartnersSettings
from helip.data.reader import SampleReader
from helip.data.units import UnitReader
from helip.storage import remote
from helip.storage.blocks import KEEP, BlockCache
from tests.data.streams import tokenize
from tests.samples import picture, sample, write_tar
from tests.storage.server import serving

SHARDS, ROWS, PICTURE, BATCH, WINDOW = 32, 50, 50_000, 40, 4
PLANS = ("no partners", "partners", "graph")
AHEAD = remote.AHEAD


def write_data(folder: Path) -> None:
    """Write the shards once. Noise after each picture, which decoders ignore, fills it to its size."""
    noise = np.random.default_rng(0)
    for shard in range(SHARDS):
        path = folder / f"{shard:05d}.tar"
        numbers = range(shard * ROWS, (shard + 1) * ROWS)
        if not path.exists():
            padded = {number: picture(number, 224).ljust(PICTURE // 2, b"\0") for number in numbers}
            write_tar(path, [(f"{n:09d}", sample(n, jpg=padded[n] + noise.bytes(PICTURE // 2))) for n in numbers])


def plan_of(name: str, index: ShardIndex) -> BatchPlan:
    """A plan on random groups of 20 rows, each of which lists the others as hard pairs."""
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


def trained(name: str, index: ShardIndex, steps: int) -> tuple[int, float]:
    """The pairs of `steps` steps, and the seconds they took."""
    read = UnitReader(SampleReader(index), plan_of(name, index), shrink, tokenize, 0)
    stream = TrainingStream(StepPositions(0, steps, read.units, 0, 1), read)
    began = time.perf_counter()
    return sum(len(batch["row"]) for batch in stream), time.perf_counter() - began


def over_http(name: str, address: str, cache: Path, limit: int, ahead: int, steps: int) -> tuple[float, float]:
    """Bytes fetched per pair after the scan, and pairs per second; each fetched block enters the cache once."""
    remote.keep_blocks(cache, limit)
    with (
        mock.patch.object(remote, "AHEAD", ahead),
        mock.patch.object(BlockCache, "put", autospec=True, side_effect=BlockCache.put) as put,
    ):
        index = ShardIndex.build(address)
        put.reset_mock()
        pairs, seconds = trained(name, index, steps)
    shutil.rmtree(cache)
    return sum(len(call.args[3]) for call in put.call_args_list) / pairs, pairs / seconds


def computed(name: str, index: ShardIndex, limit: int) -> float:
    """Bytes per pair that an LRU cache of `limit` bytes would fetch in an epoch, computed without a server."""
    plan, held, fetched, pairs = plan_of(name, index), OrderedDict[tuple[int, int], int](), 0, 0
    for step in range(len(index) // BATCH):
        for row in planned_step(plan, step)[0].tolist():
            shard, pairs = int(index.shard_of(row)), pairs + 1
            end = int(index.offset[row, TEXT] + index.size[row, TEXT])
            for number in range((int(index.offset[row, IMAGE]) - 512) // remote.BLOCK, -(-end // remote.BLOCK)):
                if (shard, number) not in held:
                    size = min(remote.BLOCK, int(index.shard_bytes[shard]) - number * remote.BLOCK)
                    held[shard, number], fetched = size, fetched + size
                held.move_to_end((shard, number))
            if sum(held.values()) > limit:
                while sum(held.values()) > KEEP * limit:
                    held.popitem(last=False)
    return fetched / pairs


def serve(folder: Path, latency: float, pipe: Any) -> None:
    """Run the server in its own process until the parent sends a message."""
    with serving(folder, latency=latency) as server:
        pipe.send(server.url)
        pipe.recv()


def compare(folder: Path, latency: float, steps: int) -> dict[str, Any]:
    """Every plan from local files and over HTTP."""
    data = folder / "data"
    write_data(data)
    size = sum(path.stat().st_size for path in data.iterdir())
    limit = max(size // 4, 16 * remote.BLOCK)
    found: dict[str, Any] = {"steps": steps, "bytes": size, "bytes of a pair": size / (SHARDS * ROWS), "cache": limit}
    local = ShardIndex.build(str(data))
    for name in PLANS:
        found[name] = {"computed bytes per pair": computed(name, local, limit)}
    if not steps:
        return found
    ours, theirs = Pipe()
    server = get_context("fork").Process(target=serve, args=(data, latency, theirs))
    server.start()
    address = f"{ours.recv()}/{{00000..{SHARDS - 1:05d}}}.tar"
    for name in PLANS:
        pairs, seconds = trained(name, local, steps)
        found[name]["local"] = {"pairs/s": pairs / seconds}
        for how, ahead in (("without prefetching", 0), ("prefetching", AHEAD)):
            fetched, rate = over_http(name, address, folder / "cache", limit, ahead, steps)
            found[name][how] = {"bytes per pair": fetched, "pairs/s": rate}
    ours.send("end")
    server.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path, help="a folder for the shards and the cache")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds until the server answers")
    whole = SHARDS * ROWS // BATCH
    parser.add_argument(
        "--steps",
        type=int,
        default=whole,
        help=f"of {BATCH} pairs (default: {whole}, an epoch; 0: computed bytes alone)",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps({"remote": compare(args.out, args.latency, args.steps), "environment": environment()}, indent=1))


if __name__ == "__main__":
    main()
