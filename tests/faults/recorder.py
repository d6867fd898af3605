"""Records every trained pair in the training step, and compares it with the index by independent code.

The bytes that reached the step are known by their digests (batch["identity"]); which sample they belong to is looked up
in the shards by `tarfile`, in which the hard pairs of its row stand is read by numpy from the index.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from helip.training.module import HelipModule

Digests = tuple[int, int]  # of the image's and the caption's bytes


def digest(data: bytes) -> int:
    return int(np.frombuffer(hashlib.blake2b(data, digest_size=8).digest(), np.int64)[0]) & (2**63 - 1)


@dataclass(frozen=True)
class Sample:
    row: int
    key: str
    shard: str


def samples(shards: Path) -> dict[Digests, Sample]:
    """All samples of a folder of shards, by the digests of their .jpg and .txt; each differs from all others."""
    found: dict[Digests, Sample] = {}
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
        for name in members:
            if name.endswith(".jpg"):
                key = name.removesuffix(".jpg")
                digests = digest(members[name]), digest(members[f"{key}.txt"])
                found[digests] = Sample(len(found), key, path.name)
    return found


@contextmanager
def recording(shards: Path, file: Path) -> Iterator[None]:
    """Append a line for every trained pair: target key, partner key, shards, rows; also in forked processes."""
    known, step = samples(shards), HelipModule.training_step

    def recorded(self: HelipModule, batch: Any, batch_idx: int) -> Any:
        identity, targets = batch["identity"].tolist(), batch["target"].tolist()
        for place, target in enumerate(targets):
            if target == place:
                continue
            both = [known.get((identity[at][1], identity[at][2])) for at in (target, place) if at >= 0]
            line = {"filler": target < 0, "rows": [identity[at][0] for at in (target, place) if at >= 0]}
            line |= {"samples": [vars(one) if one else None for one in both]}
            with open(file, "a") as log:
                log.write(json.dumps(line) + "\n")
        return step(self, batch, batch_idx)

    with mock.patch.object(HelipModule, "training_step", recorded):
        yield


def wrong_pairs(file: Path, index: Path, topk: int) -> tuple[int, list[dict[str, Any]]]:
    """Number of recorded pairs, and of those that contradict the index in a folder."""
    hard = np.load(index / "rows.npy")[:, :topk]
    lines = [json.loads(line) for line in file.read_text().splitlines()]

    def right(line: dict[str, Any]) -> bool:
        found = line["samples"]
        if None in found or [one["row"] for one in found] != line["rows"]:
            return False
        return line["filler"] or found[1]["row"] in hard[found[0]["row"]]

    return len(lines), [line for line in lines if not right(line)]
