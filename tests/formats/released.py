"""Shards with related pairs, and the authors' files about them, written by independent code."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from tests.samples import sample, write_tar

TOPICS = ("cat sofa", "red car road", "bowl of soup", "mountain snow peak", "old wooden door", "child with kite")
GROUP = 14  # rows of each topic


def topical_shards(folder: Path, shards: int = 4, urls: Sequence[str | None] | None = None) -> ShardIndex:
    """Rows whose captions share words with the rows of the same topic; row r has topic r % 6."""
    count = GROUP * len(TOPICS)
    samples = []
    for row in range(count):
        facts = {"caption": "x", "url": urls[row] if urls else f"http://u/{row}"}
        caption = f"{TOPICS[row % len(TOPICS)]} number {row}"
        samples.append((f"{row:09d}", sample(row, txt=caption.encode(), json=json.dumps(facts).encode())))
    step = count // shards
    return ShardIndex.build(
        [write_tar(folder / f"{s:05d}.tar", samples[s * step : (s + 1) * step]) for s in range(shards)]
    )


def hard_pairs(count: int, depth: int, fingerprint: str) -> HardPairIndex:
    """Partners of the same topic, nearest row first."""
    rows = np.full((count, depth), -1, np.int32)
    for row in range(count):
        same = [other for other in range(row % len(TOPICS), count, len(TOPICS)) if other != row]
        rows[row, : min(depth, len(same))] = sorted(same, key=lambda other: abs(other - row))[:depth]
    scores = np.where(rows < 0, 0, 0.5).astype(np.float32)
    return HardPairIndex(rows, scores, scores, scores, {"fingerprint": fingerprint})


def loader_order(index: ShardIndex, workers: int = 4, batch: int = 5) -> list[int]:
    """The order in which their 128-worker loader reads rows: a worker per shard, batches in turn."""
    queues = [list(range(int(a), int(b))) for a, b in zip(index.starts[:-1], index.starts[1:], strict=True)]
    assert len(queues) == workers
    order: list[int] = []
    while any(queues):
        for queue in queues:
            order += queue[:batch]
            del queue[:batch]
    return order


def write_theirs(
    folder: Path, pairs: HardPairIndex, ids: Sequence[int], urls: Sequence[str], name: str = "toy"
) -> None:
    """Their three files; ids[r] and urls[r] of row r. The CSV as csv.writer with its defaults writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "url_index").mkdir()
    by_id = sorted(range(len(ids)), key=lambda row: ids[row])
    (folder / "url_index" / f"{name}_url_index.json").write_text(json.dumps({urls[row]: ids[row] for row in by_id}))
    lists = {ids[row]: [ids[other] for other in pairs.rows[row].tolist() if other >= 0] for row in by_id}
    (folder / f"{name}_hard_sample_dict.json").write_text(json.dumps(lists))
    with open(folder / f"{name}_hard_sample.csv", "w") as file:
        csv.writer(file, delimiter=",").writerows([target, *partners] for target, partners in lists.items())


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
