"""Cost and content of batch plans: clusters beside METIS, time and memory by rows, locality of reads, pairs per second.

    python -m benchmarks.plans quality EMBEDDINGS --metis PYTHON    of image.npy and text.npy; PYTHON has pymetis
    python -m benchmarks.plans scale 200000 1000000                 synthetic lists of 100 rows, each count by itself
    python -m benchmarks.plans reads                                plans and loaders on the embedded emoji

Lists of `scale`: each row lists 100 of its 150 nearest on a circle, so that two in three of its neighbours are mutual
(real pairs: 63 of 100). Row numbers are shuffled, so that clusters are scattered in memory. Each prints JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import helip
from benchmarks.rig import environment
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.partitions import Partition
from helip.artifacts.shards import ShardIndex
from helip.data.plans.clusters import grow_clusters
from helip.data.plans.contract import BatchPlan, PlanData, dose, planned_step
from helip.data.plans.deal import deal
from helip.data.plans.graph import GraphSettings
from helip.data.plans.neighbours import Neighbours, mutual_neighbours
from helip.data.plans.partners import PartnersSettings

M = 100
METIS = """
import json, sys, pymetis, numpy as np
ends, rows, size = np.load(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3])
graph = pymetis.CSRAdjacency(ends.tolist(), rows.tolist())
for recursive in (True, False):
    _, part = pymetis.part_graph(-(-(len(ends) - 1) // size), graph, recursive=recursive)
    print(json.dumps(list(map(int, part))))
"""


def quality(embeddings: Path, metis: Path | None) -> dict[str, Any]:
    """Mutual neighbours of a row in its own cluster, by size of the clusters: ours, random, METIS."""
    from helip.mining.miner import mine_hard_pairs

    mined = mine_hard_pairs(np.load(embeddings / "image.npy"), np.load(embeddings / "text.npy"), k=M)
    count, valid = len(mined.rows), np.ones(len(mined.rows), bool)
    graph = mutual_neighbours(mined.rows, valid)
    found: dict[str, Any] = {"rows": count, "mutual neighbours of a row": len(graph.rows) / count}
    for size in (8, 32):
        labels = Partition(*grow_clusters(graph, valid, size), {}).labels(count)
        chance = np.random.default_rng(0).permutation(count) // size
        ways = {"ours": labels, "random": chance}
        if metis is not None:
            ways |= dict(zip(("METIS recursive", "METIS k-way"), metis_labels(graph, size, metis), strict=True))
        found[f"clusters of {size}"] = {name: described(graph, way, size) for name, way in ways.items()}
    return found


def described(graph: Neighbours, labels: np.ndarray, size: int) -> dict[str, float]:
    sizes = np.bincount(labels)
    return {
        "inside": graph.inside(labels),
        "parts too large": float((sizes > size).mean()),
        "largest": int(sizes.max()),
    }


def metis_labels(graph: Neighbours, size: int, python: Path) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("ends.npy", "rows.npy")]
        np.save(files[0], graph.ends)
        np.save(files[1], graph.rows)
        done = subprocess.run(
            [python, "-c", METIS, *files, str(size)], check=True, capture_output=True, text=True, cwd=folder
        )
    return [np.array(json.loads(line)) for line in done.stdout.splitlines()]


def circle_lists(count: int, seed: int = 0) -> np.ndarray:
    """(count, M) int32."""
    generator = np.random.default_rng(seed)
    name = generator.permutation(count).astype(np.int32)  # place on the circle -> row
    near = np.concatenate([np.arange(-M * 3 // 4, 0), np.arange(1, M * 3 // 4 + 1)])
    lists = np.empty((count, M), np.int32)
    for first in range(0, count, 1 << 14):
        places = np.arange(first, min(count, first + (1 << 14)))
        drawn = generator.random((len(places), len(near)), dtype=np.float32).argpartition(M, axis=1)[:, :M]
        lists[name[places]] = name[(places[:, None] + near[drawn]) % count]
    return lists


def scale(count: int) -> dict[str, float]:
    """Seconds and peak memory of each stage, for clusters of 8 and batches of 1,024."""
    lists, valid = circle_lists(count), np.ones(count, bool)
    found: dict[str, float] = {"rows": count, "lists, MB": lists.nbytes / 1e6, "peak before, MB": peak()}
    began = time.process_time()
    graph = mutual_neighbours(lists, valid)
    found |= {"mutual neighbours, s": time.process_time() - began, "peak after, MB": peak()}
    began = time.process_time()
    partition = Partition(*grow_clusters(graph, valid, 8), {})
    found |= {"clusters, s": time.process_time() - began, "inside": graph.inside(partition.labels(count))}
    found["peak after clusters, MB"] = peak()
    del graph
    began = time.process_time()
    deal(partition, np.arange(0, count + 1, 1000), 1024, 8, 8, 0, 1)
    return found | {"deal of an epoch, s": time.process_time() - began}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def reads(steps: int = 40) -> dict[str, Any]:
    """Batches of 64 of the embedded emoji, on a random index: which rows are neighbours does not matter here."""
    shards = sorted((Path(helip.__file__).parent / "embedded" / "emoji").glob("*.tar"))
    index = ShardIndex.build(shards)
    count = len(index)
    lists = circle_lists(count)
    scores = np.ones_like(lists, np.float32)
    hard = HardPairIndex(lists, scores, scores, scores, {})
    data = PlanData(index.valid, index.starts, 64, window=2, hard=hard)
    plans: dict[str, BatchPlan] = {
        "plain": PartnersSettings("off").bind(data),
        "random partners": PartnersSettings("random").bind(data),
        "partners": PartnersSettings("joint", 20).bind(data),
        "graph": GraphSettings(M, 8).bind(data),
    }
    found: dict[str, Any] = {"rows": count, "shards": len(shards), "h at k 100": dose(M, 64, count)}
    for name, plan in plans.items():
        began = time.process_time()
        rows = [planned_step(plan, step)[0] for step in range(steps)]
        seconds = time.process_time() - began
        shard = [np.searchsorted(index.starts, batch, side="right") - 1 for batch in rows]
        found[name] = {
            "planned pairs/s": steps * 64 / seconds,
            "shards of a batch": float(np.mean([len(np.unique(batch)) for batch in shard])),
            "changes of shard per pair": float(np.mean([(np.diff(batch) != 0).mean() for batch in shard])),
            "hard pairs of a row in its batch": dose_of_plan(plan, steps),
        }
    for name, rate in loader_rates(plans, index).items():
        found[name]["loaded pairs/s"] = rate
    return found


def dose_of_plan(plan: BatchPlan, steps: int) -> float:
    """The mean number of a row's `mined` rows among the other rows of its batch, counted over the first `steps`."""
    found = pairs = 0
    for step in range(steps):
        rows, _ = planned_step(plan, step, step / steps)
        present = np.unique(rows)
        for row in rows.tolist():
            mined = plan.mined(row)
            found += int(np.isin(mined[mined >= 0], present[present != row]).sum())
        pairs += len(rows)
    return found / pairs


def loader_rates(plans: dict[str, BatchPlan], index: ShardIndex, steps: int = 20, rounds: int = 3) -> dict[str, float]:
    """Pairs read, decoded and batched per second of this process's CPU time; the best of the rounds."""
    from helip.data.pipeline import StepPositions, TrainingStream
    from helip.data.reader import SampleReader
    from helip.data.units import UnitReader
    from helip.models.clip import ModelSpec, create_clip

    clip = create_clip(ModelSpec("emoji_tiny", None))
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, plan in plans.items():  # in turn in each round: other jobs on the machine slow all plans
            read = UnitReader(SampleReader(index), plan, clip.train_transform, clip.tokenize, 0)
            stream = iter(TrainingStream(StepPositions(0, steps, read.units, 0, 1), read))
            next(stream)
            began = time.process_time()
            pairs = sum(len(batch["row"]) for batch in stream)
            best[name] = max(best.get(name, 0), pairs / (time.process_time() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    part = parser.add_subparsers(dest="part", required=True)
    real = part.add_parser("quality")
    real.add_argument("embeddings", type=Path)
    real.add_argument("--metis", type=Path, help="a python that has pymetis")
    part.add_parser("scale").add_argument("rows", type=int, nargs="+")
    part.add_parser("reads")
    args = parser.parse_args()
    if args.part == "scale" and len(args.rows) > 1:
        for rows in args.rows:
            subprocess.run([sys.executable, "-m", "benchmarks.plans", "scale", str(rows)], check=True)
        return
    found = {"quality": lambda: quality(args.embeddings, args.metis), "scale": lambda: scale(args.rows[0])}
    result = found[args.part]() if args.part in found else reads()
    print(json.dumps({args.part: result, "environment": environment()}, indent=1))


if __name__ == "__main__":
    main()
