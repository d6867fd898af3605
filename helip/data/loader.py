"""A loader for other training loops: targets with their hard pairs, from shards and an index."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from helip.artifacts.hard_pairs import BLOCK, HardPairIndex, live_counts
from helip.artifacts.shards import ShardIndex
from helip.data.batch import Batch
from helip.data.order import TargetOrder
from helip.data.partners import MinedPartners
from helip.data.pipeline import StepPositions, TrainingStream
from helip.data.plans.contract import units_per_step
from helip.data.plans.partners import PartnerPlan
from helip.data.reader import SampleReader
from helip.data.transforms import ImageTransform
from helip.data.units import UnitReader
from helip.data.workers import PatientLoader
from helip.errors import HelipError, in_arguments


def hard_pair_loader(
    shards: ShardIndex,
    pairs: HardPairIndex,
    transform: ImageTransform,
    tokenize: Callable[[list[str]], torch.Tensor],
    *,
    batch_size: int,
    steps: int,
    topk: int = 20,
    p: int = 1,
    caption: str = "txt",
    seed: int = 0,
    window: int = 8,
    first_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> DataLoader:
    """Batches of helip.data.batch.Batch: the targets first, then the hard pairs of each.

    Args:
        shards: the data.
        pairs: mined on these shards; only rows with hard pairs are targets.
        transform: image to (3, H, W) tensor.
        tokenize: captions to (n, L) int64.
        batch_size: pairs of a step over all ranks, targets and hard pairs together.
        steps: batches until the loader ends, `first_step` included.
        topk: number of hardest pairs of a target from which `p` are drawn at every visit.
        caption: as data.caption.
        seed: of order, crops and draws; seed and step are the whole state.
        window: number of shards whose rows are shuffled together.
        first_step: first step of a resumed run.
        rank, world_size, workers: of this process, and its loader processes.

    Raises:
        HelipError: the index belongs to other shards, a number is out of range, or the batch does not divide.
    """
    at_least = {"p": (p, 0), "window": (window, 1), "steps": (steps, 0), "first_step": (first_step, 0)}
    _check(shards, pairs, rank, world_size, at_least)
    rows = pairs.topk(topk).rows
    targets = shards.valid & (live_counts(rows) > 0)
    # With a random pool or imported pairs, a partner may have no hard pairs itself.
    with in_arguments():
        partners = MinedPartners(rows, targets | (shards.valid & _partners(rows)), p, seed, "drop", 1, targets=targets)
        order = TargetOrder(partners.eligible, shards.starts, seed, window)
        plan = PartnerPlan(order, partners, batch_size)
        positions = StepPositions(first_step, steps, units_per_step(plan, world_size), rank, world_size)
    read = UnitReader(SampleReader(shards, caption), plan, transform, tokenize, seed)
    normalise = partial(_normalised, normalize=read.normalize)
    return PatientLoader(TrainingStream(positions, read), None, num_workers=workers, collate_fn=normalise)


def _check(
    shards: ShardIndex, pairs: HardPairIndex, rank: int, world_size: int, at_least: Mapping[str, tuple[int, int]]
) -> None:
    """Raises HelipError; `at_least` has arguments by name, each with its smallest value."""
    if not 0 <= rank < world_size:
        raise HelipError(f"rank={rank} of world_size={world_size}: ranks count from 0 to world_size - 1")
    for name, (value, least) in at_least.items():
        if value < least:
            raise HelipError(f"{name}={value} must be {least} or more")
    if pairs.meta.get("fingerprint") != shards.fingerprint:
        raise HelipError(
            f"the hard pairs were mined on other shards (fingerprint {str(pairs.meta.get('fingerprint'))[:8]}) than "
            f"these ({shards.fingerprint[:8]}): mine again, or open the shards that were mined"
        )
    if len(pairs) != len(shards):
        raise HelipError(
            f"the hard pairs have {len(pairs):,} rows, but the shards have {len(shards):,}: mine one embedding per "
            "row, in the order of the rows, also where shards.valid is False"
        )


def _partners(rows: np.ndarray) -> np.ndarray:
    """(N,) bool, rows that are a partner of some row; `rows` is (N, k), -1 padded."""
    found = np.zeros(len(rows), bool)
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(rows[start : start + BLOCK])
        found[block[block >= 0]] = True
    return found


def _normalised(batch: Any, normalize: Callable[[torch.Tensor], torch.Tensor] | None) -> Batch:
    """The batch with float pixels, made in the worker for loops that expect them."""
    if normalize is not None:
        batch["image"] = normalize(batch["image"])
    return batch
