"""Targets in shuffled order, each with partners: mined [paper], random (the control), or none.

Legend: N rows, T targets of a step, p partners of a target.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helip.data.order import TargetOrder
from helip.data.partners import MinedPartners, Partners, RandomPartners
from helip.data.plans.contract import FILLER, PARTNER, TARGET, PlanData, Slot, Visit, units_of
from helip.data.plans.placebo import Placebo
from helip.data.schedules import Schedule, Uniform
from helip.errors import HelipError

FATE = {
    "drop": "left out as targets",
    "random": "given a random partner",
    "keep": "their partner slot takes another target",
}


class PartnerPlan:
    """Step t has the targets t * T .. (t + 1) * T of an endless order.

    Args:
        order: of the targets; the next target replaces an unreadable one.
        partners: None trains on targets only.
        batch_size: pairs of a step over all ranks, targets and partners together.
        keep_outliers: fill empty partner slots with targets instead of fillers.
    """

    def __init__(
        self, order: TargetOrder, partners: Partners | None, batch_size: int, keep_outliers: bool = False
    ) -> None:
        self.order, self.partners = order, partners
        self.batch_size, self.unit, self.length = batch_size, 1 + (partners.p if partners else 0), order.length
        self.eligible, self.scattered = order.live, partners is not None
        self.targets = batch_size // self.unit
        self.spare = TARGET if keep_outliers else FILLER

    def target(self, step: int, index: int, attempt: int = 0) -> Visit:
        return Visit(*self.order[step * self.targets + index + attempt])

    def beside(self, visit: Visit, attempt: int = 0, progress: float = 0.0) -> list[Slot]:
        if self.partners is None:
            return []
        drawn = self.partners.draw(visit.row, visit.number, attempt, progress)
        if drawn:
            return [Slot(PARTNER, row) for row in drawn]
        return [Slot(self.spare, self.partners.filler(visit.row, visit.number, attempt))]

    def mined(self, row: int) -> np.ndarray:
        return np.empty(0, np.int64) if self.partners is None else self.partners.mined(row)


@dataclass(frozen=True)
class PartnersSettings:
    """The settings of partners (conf/plan/partners.yaml).

    Attributes:
        score: joint, image or text: pairs mined by this score; random: uniform rows, the control; off: no partners.
        topk: number of hardest pairs of a target from which partners are drawn.
        p: partners of a target.
        outliers: drop, random or keep, for a target with fewer than `min_partners` hard pairs.
        schedule: the order in which partners are drawn.
        placebo: use the row-permuted index, as a control.
    """

    score: str
    topk: int = 20
    p: int = 1
    outliers: str = "drop"
    min_partners: int = 1
    schedule: Schedule = field(default_factory=Uniform)
    placebo: bool = False

    def __post_init__(self) -> None:
        """Raises HelipError for a placebo without an index."""
        if self.placebo and not self.mines:
            raise HelipError(
                f"helip.placebo=true permutes the rows of an index, but helip.score={self.score} uses none: set "
                "helip.score=joint or helip.placebo=false"
            )

    @property
    def mines(self) -> bool:
        return self.score not in ("random", "off")

    @property
    def unit(self) -> int:
        """Pairs of a target with its partners."""
        return 1 if self.score == "off" else 1 + self.p

    def check(self, batch_size: int) -> None:
        """Raises HelipError if the batch does not hold whole units."""
        units_of(batch_size, self.unit)

    def bind(self, data: PlanData) -> PartnerPlan:
        """Make the plan and print the number of outliers. Raises HelipError as MinedPartners and TargetOrder."""
        partners = self._partners(data)
        live = data.valid if partners is None else partners.eligible
        order = TargetOrder(live, data.starts, data.seed, data.window, data.weights)
        return PartnerPlan(order, partners, data.batch_size, self.outliers == "keep")

    def _partners(self, data: PlanData) -> Partners | None:
        if self.score == "off":
            return None
        if self.score == "random":
            return RandomPartners(data.valid, self.p, data.seed)
        if data.hard is None:
            raise HelipError(
                f"helip.score={self.score} needs mined hard pairs, but there is no index: mine, or set paths.index"
            )
        imported = data.hard.meta.get("imported", {"scores": True})
        if self.schedule.needs_scores and not imported.get("scores"):
            raise HelipError(
                f"helip.schedule={type(self.schedule).__name__.lower()} draws by scores, which imported hard pairs "
                "lack: use uniform or anneal"
            )
        top = data.hard.topk(self.topk)
        rows: Any = top.rows  # or an object that returns lines as an array does
        scores: Any = top.scores
        if self.placebo:
            placebo = Placebo(data.valid, data.seed)
            rows, scores = placebo.rows(rows), placebo.values(scores)
        partners = MinedPartners(
            rows, data.valid, self.p, data.seed, self.outliers, self.min_partners, self.schedule, scores
        )
        count, share = int(partners.outlier.sum()), partners.outlier.sum() / max(1, data.valid.sum())
        data.console.print(
            f"outliers: {count:,} targets ({share:.1%}) have fewer than {self.min_partners} hard pairs: "
            f"{FATE[self.outliers]}"
        )
        return partners
