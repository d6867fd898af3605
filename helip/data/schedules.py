"""In which order a target's mined rows are tried as partners; the first p good ones stand in the batch.

Legend: n live mined rows of one target, best first.
"""

import math

import numpy as np

from helip.errors import HelipError

SCHEDULES = ("uniform", "score", "anneal")


def check_schedule(schedule: str) -> None:
    """Raise HelipError for a name that is none."""
    if schedule not in SCHEDULES:
        raise HelipError(f"helip.schedule={schedule} is not one of {', '.join(SCHEDULES)}")


def order_rows(
    schedule: str, live: np.ndarray, scores: np.ndarray | None, progress: float, p: int, generator: np.random.Generator
) -> np.ndarray:
    """A permutation of the live rows.

    Args:
        schedule: `uniform`: all orders equally likely [paper, code]. `score`: drawn one after the other without
            replacement, each in proportion to its score. `anneal`: uniform among the best k, which shrinks from n to p
            as training goes on [ours: a curriculum]; the others follow, to replace what cannot be read.
        live: (n,) rows, best first.
        scores: (n,) positive; needed by `score` alone.
        progress: share of the training that is done, 0 to 1.
        p: partners that are wanted.
    """
    if schedule == "score":
        assert scores is not None
        # the largest log score + Gumbel noise is a draw in proportion to the score (arXiv 1903.06059)
        keys = np.log(np.maximum(scores, np.finfo(np.float32).tiny)) + generator.gumbel(size=len(live))
        return live[np.argsort(-keys, kind="stable")]
    if schedule == "anneal":
        best = min(len(live), max(p, math.ceil((1 - progress) * len(live))))
        return np.concatenate([generator.permutation(live[:best]), live[best:]])
    return generator.permutation(live)
