# pyright: strict
"""Where the limits of a search lie among the similarities of random pairs: they are of a geometry, not of nature.

Legend: N rows, P sampled pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helip.mining.settings import SearchSettings

SHARES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
PAIRS = 20_000  # of which one in a thousand is 20


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
