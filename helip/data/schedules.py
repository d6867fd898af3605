"""In which order a target's mined rows are tried as partners; the first p good ones stand in the batch.

Legend: n live mined rows of one target, best first.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np


class Schedule(Protocol):
    """A partner rule: conf/schedule names one, and so may a file of the user's own."""

    needs_scores: ClassVar[bool]

    def order(
        self, live: np.ndarray, scores: np.ndarray | None, progress: float, p: int, generator: np.random.Generator
    ) -> np.ndarray:
        """A permutation of the live rows, a pure function of its arguments.

        Args:
            live: (n,) rows, best first.
            scores: (n,) positive, where `needs_scores`, else None.
            progress: share of the training that is done, 0 to 1.
            p: partners that are wanted.
            generator: of this target's visit.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """All orders equally likely [paper, code]."""

    needs_scores: ClassVar[bool] = False

    def order(
        self, live: np.ndarray, scores: np.ndarray | None, progress: float, p: int, generator: np.random.Generator
    ) -> np.ndarray:
        return generator.permutation(live)


@dataclass(frozen=True)
class Score:
    """Drawn one after the other without replacement, each in proportion to its score."""

    needs_scores: ClassVar[bool] = True

    def order(
        self, live: np.ndarray, scores: np.ndarray | None, progress: float, p: int, generator: np.random.Generator
    ) -> np.ndarray:
        assert scores is not None
        # the largest log score + Gumbel noise is a draw in proportion to the score (arXiv 1903.06059)
        keys = np.log(np.maximum(scores, np.finfo(np.float32).tiny)) + generator.gumbel(size=len(live))
        return live[np.argsort(-keys, kind="stable")]


@dataclass(frozen=True)
class Anneal:
    """Uniform among the best k, which shrinks from n to p as training goes on [ours: a curriculum].

    The others follow, to replace what cannot be read.
    """

    needs_scores: ClassVar[bool] = False

    def order(
        self, live: np.ndarray, scores: np.ndarray | None, progress: float, p: int, generator: np.random.Generator
    ) -> np.ndarray:
        best = min(len(live), max(p, math.ceil((1 - progress) * len(live))))
        return np.concatenate([generator.permutation(live[:best]), live[best:]])
