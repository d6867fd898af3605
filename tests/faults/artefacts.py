"""Small artefacts, made by functions that return how to load them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from tests.samples import sample, write_tar


def small(number: int) -> dict[str, bytes]:
    return sample(number, jpg=bytes([65 + number]) * (30 + number), json=None)


def make_index(folder: Path) -> Callable[[], object]:
    rows = np.array([[1, 2], [2, -1], [0, 1]], np.int32)
    scores = np.where(rows >= 0, 0.5, 0).astype(np.float32)
    HardPairIndex(rows, scores, scores, scores, {"fingerprint": "ab", "settings": {}}).save(folder)
    return lambda: HardPairIndex.load(folder)


def make_store(folder: Path) -> Callable[[], object]:
    store = EmbeddingStore.create(folder, 3, 2, 2, {"identity": "x"})
    store.write(np.arange(3), np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))
    store.finish()
    return lambda: EmbeddingStore(folder)


def make_shards(folder: Path) -> Callable[[], object]:
    shard = write_tar(folder.parent / "data" / "0.tar", [(f"k{n}", small(n)) for n in range(3)])
    ShardIndex.build([shard]).save(folder)
    return lambda: ShardIndex.load(folder)
