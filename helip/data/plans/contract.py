"""The interface of batch plans: pure functions from a position in the training to rows and their roles.

`bind` of a settings object (conf/plan) makes a plan. A plan does not read images: if the reader (helip.data.units)
finds an unreadable row, it asks again with a higher attempt.
Legend: N rows, S shards, B pairs of a step over all ranks, T units of a step, k mined rows of a target, h the dose.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from rich.console import Console

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError

FILLER, TARGET, PARTNER = -1, 0, 1  # roles


class Visit(NamedTuple):
    """A target and the number of its visit, which seeds its random draws."""

    number: int
    row: int


class Slot(NamedTuple):
    """A row beside a target: PARTNER, its hard pair; TARGET, another target; FILLER, neither."""

    role: int
    row: int


class BatchPlan(Protocol):
    """The batches of a training.

    A step has B / unit units. A unit is a target and unit - 1 slots beside it, read by one rank. All methods are pure
    functions.

    Attributes:
        batch_size: B.
        unit: pairs of a unit.
        length: targets of an epoch.
        eligible: (N,) bool, the rows that may be targets.
        scattered: whether a batch reads rows at random places of the data.
    """

    batch_size: int
    unit: int
    length: int
    eligible: np.ndarray
    scattered: bool

    def target(self, step: int, index: int, attempt: int = 0) -> Visit:
        """The target of unit `index` (below T) of a step; a higher attempt asks for a replacement."""
        ...

    def beside(self, visit: Visit, attempt: int = 0, progress: float = 0.0) -> list[Slot]:
        """Rows for the slots beside a target, in order; a higher attempt asks for more.

        `progress` is the completed share of the training, 0 to 1.
        """
        ...

    def mined(self, row: int) -> np.ndarray:
        """(k,) int64, sorted, -1 first: the rows that count as hard for `row`."""
        ...


@dataclass(frozen=True)
class PlanData:
    """The data for a plan.

    Attributes:
        valid: (N,) bool, the usable rows of the training part.
        starts: (S + 1,) first row of each shard, then N.
        batch_size: pairs of a step over all ranks.
        seed: of every random draw.
        window: number of shards whose rows are shuffled together.
        weights: (S,) visits of a row per epoch, by its shard; None: 1.
        hard: mined pairs; None if the plan needs none.
        folder: for partitions; None keeps them in memory.
        console: for messages.
    """

    valid: np.ndarray
    starts: np.ndarray
    batch_size: int
    seed: int = 0
    window: int = 8
    weights: np.ndarray | None = None
    hard: HardPairIndex | None = None
    folder: Path | None = None
    console: Console = field(default_factory=lambda: Console(quiet=True))


class PlanSettings(Protocol):
    """An option of conf/plan: its fields are the settings of a plan, checked on creation.

    Attributes:
        mines: whether `bind` needs the mined pairs.
    """

    @property
    def mines(self) -> bool: ...

    def check(self, batch_size: int) -> None:
        """Check the settings before mining. Raises HelipError if `batch_size` pairs of a step do not fit them."""
        ...

    def bind(self, data: PlanData) -> BatchPlan:
        """The plan for these data. Raises HelipError if the settings do not fit them."""
        ...


def units_per_step(plan: BatchPlan, world_size: int = 1) -> int:
    """T, units of a step over all ranks. Raises HelipError as `units_of`."""
    return units_of(plan.batch_size, plan.unit, world_size)


def units_of(batch_size: int, unit: int, world_size: int = 1) -> int:
    """batch_size / unit, the units of a step [paper, code].

    Raises:
        HelipError: the batch does not divide into whole units per rank.
    """
    if batch_size <= 0 or batch_size % (unit * world_size):
        raise HelipError(
            f"data.batch_size={batch_size} must be a multiple of {unit * world_size} "
            f"(a target with helip.p={unit - 1} partners, on {world_size} ranks)"
        )
    return batch_size // unit


def planned_step(plan: BatchPlan, step: int, progress: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The batch of a step if every row is readable: (B,) int64 rows and roles, targets first."""
    visits = [plan.target(step, index) for index in range(units_per_step(plan))]
    slots = [Slot(TARGET, visit.row) for visit in visits]
    for visit in visits:
        beside: list[Slot] = []
        attempt = 0
        while len(beside) < plan.unit - 1:
            beside += plan.beside(visit, attempt, progress)
            attempt += 1
        slots += beside[: plan.unit - 1]
    found = np.array(slots, np.int64)
    return found[:, 1], found[:, 0]


def dose(k: int, batch_size: int, rows: int) -> float:
    """h, the expected number of hard pairs of a row in a random batch: k (B - 1) / (N - 1).

    Raises:
        HelipError: fewer than two rows.
    """
    if rows < 2:
        raise HelipError(f"{rows} rows have no hard pairs: give at least two")
    return k * (batch_size - 1) / (rows - 1)
