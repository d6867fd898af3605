"""A small stream: shards, an order, mined partners, and a transform whose pixels depend on the seed."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helip.artifacts.shards import ShardIndex
from helip.data.batch import Batch
from helip.data.order import TargetOrder
from helip.data.partners import MinedPartners, Partners
from helip.data.pipeline import StepPositions, TrainingStream
from helip.data.plans.partners import PartnerPlan
from helip.data.reader import SampleReader
from helip.data.units import UnitReader
from helip.storage.base import Shard


def noisy(image: Image.Image) -> torch.Tensor:
    """(3, 8, 8): a picture's colours, with noise from torch's global generator."""
    small = torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1).float()
    return small + torch.randn(3, 8, 8)


def tokenize(captions: list[str]) -> torch.Tensor:
    """(n, 12) bytes."""
    return torch.tensor([list(caption.encode()[:12].ljust(12, b"\0")) for caption in captions])


def ring(count: int, k: int = 4) -> np.ndarray:
    """Row i has the hard pairs i + 1 ... i + k: any other pairing of target and partner is wrong."""
    return ((np.arange(count)[:, None] + np.arange(1, k + 1)) % count).astype(np.int32)


def unit_reader(
    shards: Sequence[Shard],
    partners: Partners | str | None = "mined",
    caption: str = "captions",
    p: int = 1,
    outliers: str = "drop",
    keep_outliers: bool = False,
    **settings,
) -> UnitReader:
    index = ShardIndex.build(shards)
    if partners == "mined":
        partners = MinedPartners(ring(len(index)), index.valid, p, 0, outliers, 1)
    assert not isinstance(partners, str)
    order = TargetOrder(partners.eligible if partners else index.valid, index.starts, seed=0, window=2)
    plan = PartnerPlan(order, partners, 4 * (1 + (partners.p if partners else 0)), keep_outliers)
    return UnitReader(SampleReader(index, caption), plan, noisy, tokenize, seed=0, **settings)


def batches(
    read: UnitReader, steps: int, targets: int, first: int = 0, workers: int = 0, rank: int = 0, world: int = 1
) -> list[Batch]:
    positions = StepPositions(first, steps, targets, rank, world)
    return list(DataLoader(TrainingStream(positions, read), batch_size=None, num_workers=workers))


def same(first: Batch, second: Batch) -> bool:
    """Rows, pixels, tokens, roles: everything."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) if name != "replaced" else first[name] == second[name] for name in first
    )
