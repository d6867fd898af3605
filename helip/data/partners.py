"""The partners of a target: hard pairs from an index, or random rows as the control.

A draw depends only on (seed, visit, row, attempt, progress), not on workers, ranks or the step of a resume.
Legend: N rows, K mined rows per target, p partners per target.
"""

from typing import Protocol

import numpy as np

from helip.artifacts.hard_pairs import live_counts
from helip.data.schedules import Schedule, Uniform
from helip.errors import HelipError

MINED, RANDOM, FILLER = 11, 12, 13  # separate streams of random numbers


class Partners(Protocol):
    """Chooses the partners of a target."""

    p: int
    eligible: np.ndarray  # (N,) bool, the rows that may be targets

    def draw(self, row: int, visit: int, attempt: int = 0, progress: float = 0.0) -> list[int]:
        """At most p distinct rows that count as hard pairs of `row`; a higher attempt asks for replacements.

        `progress` is the completed share of the training.
        """
        ...

    def filler(self, row: int, visit: int, attempt: int = 0) -> int:
        """A row for a slot without partner; `attempt` continues the count of `draw`."""
        ...

    def mined(self, row: int) -> np.ndarray:
        """(k,) int64, sorted, -1 first: the rows that must not count as normal negatives of `row`."""
        ...


class RandomPartners:
    """The control: p uniform partners, redrawn at every visit, without index and mask.

    Args:
        valid: (N,) bool, the usable rows of the training part.

    Raises:
        HelipError: there are at most p usable rows.
    """

    def __init__(self, valid: np.ndarray, p: int, seed: int) -> None:
        self.valid, self.p, self.seed, self.eligible = valid, p, seed, valid
        self._usable = np.flatnonzero(valid)
        if len(self._usable) <= p:
            raise HelipError(
                f"helip.p={p} partners of a target need more than the {len(self._usable)} usable rows of the data"
            )

    def draw(self, row: int, visit: int, attempt: int = 0, progress: float = 0.0) -> list[int]:
        return self._others(RANDOM, row, visit, attempt, self.p)

    def filler(self, row: int, visit: int, attempt: int = 0) -> int:
        return self._others(FILLER, row, visit, attempt, 1)[0]

    def _others(self, stream: int, row: int, visit: int, attempt: int, count: int) -> list[int]:
        """`count` distinct usable rows, without `row`."""
        generator = np.random.default_rng([self.seed, stream, visit, row, attempt])
        drawn = generator.choice(len(self._usable), min(count + 1, len(self._usable)), replace=False, shuffle=True)
        return [int(other) for other in self._usable[drawn] if other != row][:count]

    def mined(self, row: int) -> np.ndarray:
        return np.full(1, -1, np.int64)


class MinedPartners(RandomPartners):
    """p members of a target's mined top k, without replacement, by default uniformly [paper, code].

    Args:
        rows: (N, k) int32 mined rows, -1 padded, best first (cut to helip.topk).
        valid: (N,) bool, the usable rows of the training part; the others are neither targets nor partners.
        outliers: for a target with fewer than `min_partners` live partners, `drop` removes it from the order, `random`
            gives it a uniform filler, `keep` gives its slot to another target.
        schedule: the order in which partners are drawn (helip.data.schedules).
        scores: (N, k) of the rows, for a schedule that needs them.
        targets: (N,) bool, the rows among which outliers are counted; None: all valid rows.

    Raises:
        HelipError: as RandomPartners, or more than half of the targets are outliers and would be dropped.
    """

    def __init__(
        self,
        rows: np.ndarray,
        valid: np.ndarray,
        p: int,
        seed: int,
        outliers: str,
        min_partners: int,
        schedule: Schedule = Uniform(),  # noqa: B008 - it is frozen
        scores: np.ndarray | None = None,
        targets: np.ndarray | None = None,
    ) -> None:
        super().__init__(valid, p, seed)
        self.rows, self.schedule, self.scores = rows, schedule, scores if schedule.needs_scores else None
        self.outlier = valid & (live_counts(rows, valid) < min_partners)  # (N,) bool
        self.eligible = valid & ~self.outlier if outliers == "drop" else valid
        wanted = valid if targets is None else targets
        share = (self.outlier & wanted).sum() / max(1, wanted.sum())
        if outliers == "drop" and share > 0.5:
            raise HelipError(
                f"{share:.0%} of the targets have fewer than helip.min_partners={min_partners} hard pairs and would be "
                "dropped: lower helip.min_similarity, raise helip.near_duplicate, or set helip.outliers=random"
            )

    def draw(self, row: int, visit: int, attempt: int = 0, progress: float = 0.0) -> list[int]:
        if self.outlier[row]:
            return []
        mined, alive = self._alive(row)
        scores = None if self.scores is None else np.asarray(self.scores[row])[alive]
        generator = np.random.default_rng([self.seed, MINED, visit, row])
        order = self.schedule.order(mined[alive], scores, progress, self.p, generator)
        return [int(other) for other in order[attempt * self.p : (attempt + 1) * self.p]]

    def filler(self, row: int, visit: int, attempt: int = 0) -> int:
        draws = 0 if self.outlier[row] else -(-int(self._alive(row)[1].sum()) // self.p)
        return super().filler(row, visit, max(0, attempt - draws))

    def _alive(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(k,) mined rows, and which of them may be partners."""
        mined = np.asarray(self.rows[row])
        return mined, (mined >= 0) & self.valid[np.maximum(mined, 0)]

    def mined(self, row: int) -> np.ndarray:
        return np.sort(np.asarray(self.rows[row]).astype(np.int64))
