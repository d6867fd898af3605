"""A batch plan: rows that follow each other stand in a batch, as one source often lies in one shard.

helip train --config-dir examples/extend/conf helip.plan=consecutive
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from helip.data.plans.contract import PlanData, Slot, Visit, units_of


@dataclass(frozen=True)
class Consecutive:
    mines: ClassVar[bool] = False  # no hard pairs needed

    def check(self, batch_size: int) -> None:
        units_of(batch_size, 1)

    def bind(self, data: PlanData) -> "ConsecutivePlan":
        return ConsecutivePlan(data)


class ConsecutivePlan:
    def __init__(self, data: PlanData) -> None:
        self.batch_size, self.unit, self.eligible, self.scattered = data.batch_size, 1, data.valid, False
        self.rows, self.length, self.seed = np.flatnonzero(data.valid), int(data.valid.sum()), data.seed

    def target(self, step: int, index: int, attempt: int = 0) -> Visit:
        epoch, within = divmod(step * self.batch_size + index + attempt, self.length)
        start = np.random.default_rng([self.seed, epoch]).integers(self.length)  # each epoch is cut elsewhere
        return Visit(epoch, int(self.rows[(start + within) % self.length]))

    def beside(self, visit: Visit, attempt: int = 0, progress: float = 0.0) -> list[Slot]:
        return []

    def mined(self, row: int) -> np.ndarray:
        return np.empty(0, np.int64)
