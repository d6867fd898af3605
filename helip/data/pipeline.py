"""The endless webdataset pipeline of one rank: numbers -> units -> batches.

Step t has the units t*T .. (t+1)*T of the plan (T units over all ranks). Rank r takes its slice, worker w takes the
steps t with t = w modulo workers, so neither the number of workers nor of ranks changes the pairs of a step.
Legend: B pairs of this rank, T_r targets of this rank, p partners per target, k mined rows kept per target.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.filters import batched
from webdataset.filters import map as mapped
from webdataset.pipeline import DataPipeline

from helip.data.batch import Batch
from helip.data.plans.contract import FILLER, TARGET
from helip.data.units import Unit, UnitReader


@dataclass
class StepPositions(IterableDataset):
    """Numbers of the units that this worker of this rank reads.

    Attributes:
        first_step: number of completed steps.
        steps: step at which the stream ends.
        targets: units per step over all ranks; a multiple of world_size.
    """

    first_step: int
    steps: int
    targets: int
    rank: int
    world_size: int

    def __iter__(self) -> Iterator[int]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        own = self.targets // self.world_size
        for step in range(self.first_step + number, self.steps, workers):
            start = step * self.targets + self.rank * own
            yield from range(start, start + own)


def fetched_ahead(numbers: Iterable[int], read: UnitReader) -> Iterator[int]:
    """The same numbers; with remote shards, the bytes of the next units are fetched meanwhile."""
    ahead = -(-read.reader.ahead // read.plan.unit)
    waiting: deque[int] = deque()
    for number in numbers:
        if ahead:
            read.fetch_ahead(number)
        waiting.append(number)
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def collate(units: list[Unit]) -> Batch:
    """Targets first, then the partners of each (helip.data.batch)."""
    examples = [unit.target for unit in units]
    target = list(range(len(units)))
    for position, unit in enumerate(units):
        for role, example in unit.slots:
            target.append(FILLER if role == FILLER else len(examples) if role == TARGET else position)
            examples.append(example)
    width = max(1, max(len(example.mined) for example in examples))
    mined = np.full((len(examples), width), -1, np.int64)
    for line, example in zip(mined, examples, strict=True):
        line[width - len(example.mined) :] = example.mined  # sorted with -1 first
    return Batch(
        image=torch.stack([example.image for example in examples]),
        text=torch.stack([example.text for example in examples]),
        row=torch.tensor([example.row for example in examples], dtype=torch.int64),
        target=torch.tensor(target, dtype=torch.int64),
        identity=torch.from_numpy(np.array([example.identity for example in examples], np.int64)),
        mined=torch.from_numpy(mined),
        replaced=sum(unit.replaced for unit in units),
    )


class TrainingStream(DataPipeline, IterableDataset):
    """Batches of one rank from `first_step`; the length is that of the whole training, as Lightning's resume needs."""

    def __init__(self, positions: StepPositions, read: UnitReader) -> None:
        own = positions.targets // positions.world_size
        super().__init__(
            positions,
            partial(fetched_ahead, read=read),
            mapped(read),
            batched(own, collation_fn=collate, partial=False),
        )
        self.steps = positions.steps

    def __len__(self) -> int:
        return self.steps
