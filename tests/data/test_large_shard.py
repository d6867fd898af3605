"""One shard of 100,000 samples is scanned, read and used in a training."""

import resource
from pathlib import Path
from time import process_time

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import pil_to_tensor

from helip.artifacts.shards import ShardIndex
from helip.data.loader import hard_pair_loader
from helip.mining.miner import mine
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from tests.samples import picture, write_tar

COUNT, PICTURES = 100_000, 64


def numbers(texts: list[str]) -> torch.Tensor:
    """(n, 1) the number in each caption, which is its row."""
    return torch.tensor([[int(text.split()[1])] for text in texts])


@pytest.mark.slow
def test_a_shard_of_100_000_samples(tmp_path: Path) -> None:
    pictures = [picture(number, 16) for number in range(PICTURES)]
    samples = [
        (f"{row:06d}", {"jpg": pictures[row % PICTURES], "txt": f"picture {row}".encode()}) for row in range(COUNT)
    ]
    shard = write_tar(tmp_path / "00000.tar", samples)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, process_time()
    index = ShardIndex.build([shard])
    print(f"scan: {process_time() - start:.1f} CPU s, {shard.stat().st_size / 1e6:.0f} MB")
    assert len(index) == COUNT
    assert index.valid.all()
    assert [index.where(row) for row in (0, COUNT - 1)] == [
        "00000.tar, key 000000 (row 0)",
        "00000.tar, key 099999 (row 99999)",
    ]
    rng = np.random.default_rng(0)
    pairs = mine(
        open_pairs(rng.random((COUNT, 8), np.float32), rng.random((COUNT, 8), np.float32)),
        tmp_path / "pairs",
        SearchSettings(backend="pool", depth=4, pool_size=500),
        meta={"fingerprint": index.fingerprint},
        progress=False,
    )
    loader = iter(hard_pair_loader(index, pairs, pil_to_tensor, numbers, batch_size=32, steps=5, topk=4))
    for _ in range(5):
        batch = next(loader)
        assert batch["text"][:, 0].tolist() == batch["row"].tolist()
        for row, target in zip(batch["row"].tolist(), batch["target"].tolist(), strict=True):
            anchor = int(batch["row"][target])
            assert row == anchor or row in pairs.rows[anchor]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory: {before / 1e3:.0f} to {after / 1e3:.0f} MB at most")
    assert after - before < 600_000  # kB
