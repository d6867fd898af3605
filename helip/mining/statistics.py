"""Statistics for the user: how hard the pairs are, what the rules removed, and where limits lie among random pairs.

Legend: N rows, K stored partners of each, P sampled pairs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helip.artifacts.hard_pairs import HardPairIndex
from helip.mining.rescore import FILTERS, failures, unfiltered
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs

QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
ENOUGH = 2_000_000  # scores for the quartiles; a larger index gives every n-th row
SAMPLE = (256, 2048)  # targets and candidates of the pairs that filter shares are counted on
SHARES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
PAIRS = 20_000  # of which one in a thousand is 20


def describe(index: HardPairIndex, removed: dict[str, int], redone: int) -> dict[str, Any]:
    """Statistics of a finished index.

    Args:
        index: its arrays.
        removed: by filter, candidates that it took out of the first K places.
        redone: rows that the bulk pass could not settle.

    Returns:
        rows, rows_short (fewer than K partners), rows_empty, partners, quartiles (minimum, quartiles and maximum of
        each stored score), removed_from_first, redone.
    """
    step = max(1, index.rows.size // ENOUGH)
    live = np.asarray(index.rows[::step]) >= 0
    counts = np.zeros(index.depth + 1, np.int64)
    for start in range(0, len(index), 1 << 18):
        counts += np.bincount((index.rows[start : start + (1 << 18)] >= 0).sum(axis=1), minlength=index.depth + 1)
    quartiles = {}
    for name in ("scores", "scores_image", "scores_text"):
        values = np.asarray(getattr(index, name)[::step])[live]
        quartiles[name] = [round(float(q), 6) for q in np.quantile(values, QUARTILES)] if values.size else []
    return {
        "rows": len(index),
        "rows_short": int(counts[:-1].sum()),
        "rows_empty": int(counts[0]),
        "partners": int((counts * np.arange(len(counts))).sum()),
        "quartiles": quartiles,
        "removed_from_first": removed,
        "redone": redone,
    }


def filter_shares(pairs: Pairs, settings: SearchSettings) -> dict[str, float]:
    """Share of all pairs of positive unfiltered score that each rule removes, from a sample of pairs.

    Returns:
        For each of FILTERS the share from 0 to 1, each pair counted for the first that it fails, and `sampled_pairs`.
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
    """Of one side: the cosine at each of `SHARES`, and the shares of pairs below the one and above the other limit."""

    side: str
    values: tuple[float, ...]
    low: float
    below: float
    high: float
    above: float

    def line(self) -> list[str]:
        """Cells for a table: side, quantiles, then each limit with its share."""
        limits = [f"{self.low:g}: {self.below:.2%} below", f"{self.high:g}: {self.above:.3%} above"]
        return [self.side, *(f"{value:.3f}" for value in self.values), *limits]


HEADERS = ["side", *(f"{100 * share:g} %" for share in SHARES), "min_similarity", "near_duplicate"]


def similarity_quantiles(
    image: NDArray[np.floating], text: NDArray[np.floating], usable: NDArray[np.bool_], settings: SearchSettings
) -> list[Quantiles]:
    """Of random pairs of different rows, the same ones each time.

    Args:
        image: (N, d_I), normalised or not.
        text: (N, d_T).
        usable: (N,) rows that are searched; at least two.
    """
    rows = np.flatnonzero(usable)
    draw = np.random.default_rng(0)
    left = draw.integers(0, len(rows), PAIRS)
    right = (left + draw.integers(1, len(rows), PAIRS)) % len(rows)
    found: list[Quantiles] = []
    for number, (side, array) in enumerate((("image", image), ("text", text))):
        cosines = _cosines(array, rows[left], rows[right])
        low, high = settings.lows[number], settings.highs[number]
        values = tuple(float(value) for value in np.quantile(cosines, SHARES))
        found.append(Quantiles(side, values, low, float((cosines < low).mean()), high, float((cosines > high).mean())))
    return found


def _cosines(array: NDArray[np.floating], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """(P,) cosines of row pairs; 0 where a row is all zeros."""
    found = np.empty(len(left))
    for start in range(0, len(left), 2000):
        part = slice(start, start + 2000)
        a, b = (np.asarray(array[side[part]], np.float64) for side in (left, right))
        norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found[part] = np.einsum("pd,pd->p", a, b) / np.where(norm > 0, norm, 1)
    return found
