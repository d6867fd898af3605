"""Advice before a training: dose, saturation and what hard pairs would add, from a few forward passes.

Cost: at most 20 random batches of training rows, 20 batches of the plan, and 20 random batches of a validation part,
where each row is embedded once; before a training at most a tenth of its pairs. Weights, BatchNorm and random states do
not change.

Legend: N rows, B pairs of a batch, n rows that are embedded.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from helip.artifacts.datasets import DatasetSpec
from helip.data.plans.contract import BatchPlan, dose, planned_step
from helip.errors import HelipError
from helip.evaluation.clip_embed import ClipEmbed
from helip.training.advise import Measured, advise, dose_line, report
from helip.training.saturation import Embedded

BATCHES = 20
MOST_ROWS = 5_120  # embedded of each kind (20 batches of 256), or two batches where those are larger
TRAINING, HELD_OUT = 31, 32  # separate streams of random numbers


def print_advice(
    embed: ClipEmbed,
    valid: NDArray[np.bool_],
    plan: BatchPlan | None,
    k: int,
    batch_size: int,
    seed: int,
    console: Console,
    budget: float = np.inf,
) -> dict[str, Any]:
    """Measure, print, and return the record for a results file; all ranks call it.

    Args:
        embed: the checkpoint, with the shards.
        valid: (N,) bool, the usable rows of the training part.
        plan: makes batches of mined pairs; None if nothing is mined.
        k: helip.topk.
        batch_size: B.
        seed: of the rows that are embedded.
        console: for the lines.
        budget: pairs that may be embedded; if it or the training part is too small, only the dose is printed.
    """
    rows = int(valid.sum())
    if rows < 2:
        return {"k": k, "batch_size": batch_size, "rows": rows, "dose": 0.0}
    about = {"k": k, "batch_size": batch_size, "rows": rows, "dose": dose(k, batch_size, rows)}
    if budget < 3 * batch_size or rows < batch_size:
        console.print(dose_line(k, batch_size, rows))
        return about
    most = int(min(BATCHES * batch_size, max(MOST_ROWS, 2 * batch_size), budget // 3))
    with random_states_kept():
        measured = measure(embed, valid, plan, k, batch_size, seed, most)
    advice = advise(measured)
    for line in report(measured, advice):
        console.print(line)
    return about | asdict(measured) | {"kind": measured.kind, "advice": asdict(advice)}


def measure(
    embed: ClipEmbed, valid: NDArray[np.bool_], plan: BatchPlan | None, k: int, batch_size: int, seed: int, most: int
) -> Measured:
    """Arguments as `print_advice`; `most` rows of each kind, at least a batch, are embedded."""
    chosen = np.random.default_rng([seed, TRAINING]).permutation(np.flatnonzero(valid))[:most]
    beside = np.empty((0, batch_size), np.int64)
    if plan is not None:
        beside = np.stack([planned_step(plan, step)[0] for step in range(most // batch_size)])
    pairs, place = embedded(embed, np.union1d(chosen, beside.ravel()), "advice")
    known = place[chosen][place[chosen] >= 0]  # without unreadable rows
    training = pairs.saturation(random_batches(known, batch_size, [seed, TRAINING, 1]))
    with_partners = [places for places in place[beside] if (places >= 0).all()]
    held_out, usable = None, validation_rows(embed)
    if usable is not None:
        others = np.random.default_rng([seed, HELD_OUT]).permutation(np.flatnonzero(usable))[:most]
        if len(others) >= batch_size:
            found, where = embedded(embed, np.sort(others), "advice-val")
            held_out = found.saturation(random_batches(where[where >= 0], batch_size, [seed, HELD_OUT, 1]))
    mined = pairs.saturation(with_partners) if with_partners else None
    return Measured(k, batch_size, int(valid.sum()), training, held_out, mined)


def validation_part(dataset: DatasetSpec) -> str | None:
    """The first part whose name begins with val."""
    return next((name for name in dataset.parts if name.startswith("val")), None)


def validation_rows(embed: ClipEmbed) -> NDArray[np.bool_] | None:
    """(N,) bool, usable rows of the validation part; None if there is none, or these shards hold none of it."""
    part = validation_part(embed.dataset)
    if part is None:
        return None
    try:
        return embed.usable(part)
    except HelipError:
        return None


def embedded(embed: ClipEmbed, rows: NDArray[np.int64], name: str) -> tuple[Embedded, NDArray[np.int64]]:
    """The embeddings of sorted (n,) rows, and the (N,) position of each row among them, -1 if it has none."""
    image, text, good, content = embed.rows(rows, name)
    place = np.full(len(embed.index or ()), -1, np.int64)
    place[good] = np.arange(len(good))
    identity = np.column_stack([good, content])
    return Embedded(image, text, identity, embed.clip.logit_scale), place


def random_batches(places: NDArray[np.int64], batch_size: int, seed: list[int]) -> list[NDArray[np.int64]]:
    """20 batches of distinct positions, each drawn anew from (n,) positions."""
    generator = np.random.default_rng(seed)
    size = min(batch_size, len(places))
    return [generator.choice(places, size, replace=False) for _ in range(BATCHES)]


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Restore the generators of torch, numpy and Python after the block."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        yield
    np.random.set_state(of_numpy)
    random.setstate(of_python)
