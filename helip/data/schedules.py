"""The order in which the hard pairs of a target are drawn as partners; the first p readable ones enter the batch.

Legend: n live mined rows of one target, best first.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator


class Schedule(Protocol):
    """A partner rule, named by conf/schedule or a file of the user."""

    needs_scores: ClassVar[bool]

    def order(self, live: Array, scores: Array | None, progress: float, p: int, generator: Generator) -> Array:
        """A permutation of the live rows, a pure function of its arguments.

        Args:
            live: (n,) rows, best first.
            scores: (n,) positive if `needs_scores`, otherwise None.
            progress: completed share of the training, 0 to 1.
            p: number of partners.
            generator: seeded by the visit of this target.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """A uniform random order [paper, code]."""

    needs_scores: ClassVar[bool] = False

    def order(self, live: Array, scores: Array | None, progress: float, p: int, generator: Generator) -> Array:
        return generator.permutation(live)


@dataclass(frozen=True)
class Score:
    """Sequential draws without replacement, each in proportion to the score."""

    needs_scores: ClassVar[bool] = True

    def order(self, live: Array, scores: Array | None, progress: float, p: int, generator: Generator) -> Array:
        assert scores is not None
        # the largest log score + Gumbel noise is a draw in proportion to the score (arXiv 1903.06059)
        keys = np.log(np.maximum(scores, np.finfo(np.float32).tiny)) + generator.gumbel(size=len(live))
        return live[np.argsort(-keys, kind="stable")]


@dataclass(frozen=True)
class Anneal:
    """Uniform among the best k, where k shrinks from n to p during training [ours: a curriculum].

    The other rows follow in order, to replace unreadable rows.
    """

    needs_scores: ClassVar[bool] = False

    def order(self, live: Array, scores: Array | None, progress: float, p: int, generator: Generator) -> Array:
        best = min(len(live), max(p, math.ceil((1 - progress) * len(live))))
        return np.concatenate([generator.permutation(live[:best]), live[best:]])
