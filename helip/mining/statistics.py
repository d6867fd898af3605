"""Statistics for the user: scores of the pairs, pairs that the rules removed, and cosines of random pairs.

Legend: N rows, K stored partners of each, P sampled pairs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from helip.artifacts.hard_pairs import HardPairIndex
from helip.mining.rescore import FILTERS, cosines, failures, unfiltered
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs

QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
ENOUGH = 2_000_000  # scores for the quartiles; of a larger index every n-th row is taken
SAMPLE = (256, 2048)  # targets and candidates of the sampled pairs for the shares of the rules
SHARES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)  # of the quantiles
PAIRS = 20_000  # random pairs for the quantiles: 20 of them lie above the last one


def describe(index: HardPairIndex, removed: dict[str, int], redone: int) -> dict[str, Any]:
    """Statistics of a finished index.

    Args:
        index: its arrays.
        removed: rule -> number of candidates, see `Ranked`.
        redone: see `Ranked`.

    Returns:
        rows, rows_short (fewer than K partners), rows_empty, partners, quartiles (minimum, quartiles and maximum of
        each stored score), removed_from_first, redone.
    """
    step = max(1, index.rows.size // ENOUGH)
    live = np.asarray(index.rows[::step]) >= 0
    counts = index.counts()
    quartiles = {}
    for name in ("scores", "scores_image", "scores_text"):
        values = np.asarray(getattr(index, name)[::step])[live]
        quartiles[name] = [round(float(q), 6) for q in np.quantile(values, QUARTILES)] if values.size else []
    return {
        "rows": len(index),
        "rows_short": int((counts < index.depth).sum()),
        "rows_empty": int((counts == 0).sum()),
        "partners": int(counts.sum()),
        "quartiles": quartiles,
        "removed_from_first": removed,
        "redone": redone,
    }


def filter_shares(pairs: Pairs, settings: SearchSettings) -> dict[str, float]:
    """Share of the pairs with a positive unfiltered score that each rule removes, from a sample of pairs.

    Returns:
        For each of FILTERS the share from 0 to 1 (a pair counts for the first rule that it fails), and `sampled_pairs`.
    """
    valid = np.random.default_rng(settings.seed).permutation(np.flatnonzero(pairs.valid))
    targets, others = np.sort(valid[: SAMPLE[0]]), np.sort(valid[-SAMPLE[1] :])
    similar = [v.unit(targets) @ v.unit(others).T for v in pairs.modalities]
    alive = (others != targets[:, None]) & (unfiltered(similar[0], similar[1], settings.score) > 0)
    row, column = np.nonzero(alive)
    code = failures(pairs, targets[row], others[column], [values[alive] for values in similar], settings)
    broken = np.bincount(code[code >= 0], minlength=len(FILTERS))
    shares = {name: float(count / max(len(code), 1)) for name, count in zip(FILTERS, broken, strict=True)}
    return {**shares, "sampled_pairs": len(code)}


@dataclass(frozen=True)
class Quantiles:
    """Cosines of one modality: the quantile at each of `SHARES`, and the shares of pairs below and above the limits."""

    side: str
    values: tuple[float, ...]
    low: float
    below: float
    high: float
    above: float

    def line(self) -> list[str]:
        """Cells of a table with these `HEADERS`."""
        limits = [f"{self.low:g}: {self.below:.2%} below", f"{self.high:g}: {self.above:.3%} above"]
        return [self.side, *(f"{value:.3f}" for value in self.values), *limits]


HEADERS = ["side", *(f"{100 * share:g} %" for share in SHARES), "min_similarity", "near_duplicate"]


def similarity_quantiles(pairs: Pairs, settings: SearchSettings) -> list[Quantiles]:
    """Quantiles of the cosines of random pairs of different valid rows, of which there are at least two.

    The pairs are the same at each call.
    """
    rows = np.flatnonzero(pairs.valid)
    draw = np.random.default_rng(0)
    left = draw.integers(0, len(rows), PAIRS)
    right = (left + draw.integers(1, len(rows), PAIRS)) % len(rows)
    found: list[Quantiles] = []
    sides = zip(("image", "text"), pairs.modalities, settings.lows, settings.highs, strict=True)
    for side, vectors, low, high in sides:
        similar = cosines(vectors, rows[left], rows[right])
        values = tuple(float(value) for value in np.quantile(similar, SHARES))
        found.append(Quantiles(side, values, low, float((similar < low).mean()), high, float((similar > high).mean())))
    return found
