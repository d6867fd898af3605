"""How many of a row's hard pairs stand in its batch.

Legend: N rows, B pairs of a step, k hardest pairs of a row, h the dose.
"""

import numpy as np

from helip.data.plans.contract import BatchPlan, planned_step
from helip.errors import HelipError


def dose(k: int, batch_size: int, rows: int) -> float:
    """h, the hard pairs that a row expects in a batch of random rows: k (B - 1) / (N - 1).

    Raises:
        HelipError: fewer than two rows.
    """
    if rows < 2:
        raise HelipError(f"{rows} rows have no hard pairs: a dose needs at least two")
    return k * (batch_size - 1) / (rows - 1)


def dose_of_plan(plan: BatchPlan, steps: int) -> float:
    """The mean number of a row's `mined` rows among the other rows of its batch, counted in the first steps."""
    found = pairs = 0
    for step in range(steps):
        rows, _ = planned_step(plan, step, step / steps)
        present = np.unique(rows)
        for row in rows.tolist():
            mined = plan.mined(row)
            found += int(np.isin(mined[mined >= 0], present[present != row]).sum())
        pairs += len(rows)
    return found / pairs
