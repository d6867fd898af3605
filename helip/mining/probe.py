"""Recall of an inexact search on probed rows, with a confidence interval.

Legend: R probed rows, K partners.
"""

from typing import NamedTuple

import numpy as np

from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs

PROBES = 768  # rows; fewer can miss the few bad rows: 512 once gave 0.998 where the recall was 0.994
Z = 1.96  # 95 %


class Recall(NamedTuple):
    """Share of the true hard pairs that were found.

    Attributes:
        value: mean over the probed rows.
        low, high: 95 % confidence interval of the mean over all rows.
        rows: number of probed rows.
    """

    value: float
    low: float
    high: float
    rows: int

    def __str__(self) -> str:
        return f"{self.value:.4f} (95 % interval {self.low:.4f} to {self.high:.4f}, {self.rows} rows probed)"


def probe_rows(pairs: Pairs, settings: SearchSettings) -> np.ndarray:
    """(R,) int64 valid rows, drawn from the seed, rising."""
    rng = np.random.default_rng((settings.seed, 0x9B0BE))
    return np.sort(rng.permutation(np.flatnonzero(pairs.valid))[:PROBES])


def interval(found: np.ndarray, true: np.ndarray) -> Recall:
    """Wilson's interval, widened because the partners of a row are found or missed together.

    Args:
        found: (R,) number of true partners of a row that were found.
        true: (R,) number of true partners of a row; rows without any are left out.

    Returns:
        The mean of found / true with its 95 % interval: Wilson's, for the number of independent draws that the variance
        between rows implies. Its width is not 0 where all partners of all probed rows were found.
    """
    share = found[true > 0] / true[true > 0]
    if not len(share):
        return Recall(1.0, 0.0, 1.0, 0)
    mean, draws = float(share.mean()), float(true.sum())
    if 0 < mean < 1:
        draws /= max(1.0, float(share.var(ddof=min(1, len(share) - 1))) * draws / len(share) / (mean * (1 - mean)))
    centre = (mean + Z**2 / (2 * draws)) / (1 + Z**2 / draws)
    half = Z / (1 + Z**2 / draws) * (mean * (1 - mean) / draws + Z**2 / (4 * draws**2)) ** 0.5
    return Recall(mean, max(0.0, centre - half), min(1.0, centre + half), len(share))


def overlap(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(R,) number of each row's true partners among the found ones; both (R, K) rows, -1 padded."""
    return np.array([len(np.intersect1d(f[f >= 0], t[t >= 0])) for f, t in zip(found, true, strict=True)])
