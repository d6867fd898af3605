"""A metric with its samples, and confidence intervals of the difference between two checkpoints.

Legend: n samples (queries, images), U units that are drawn together, C classes, R resamples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from helip.errors import HelipError

RESAMPLES = 1000


@dataclass(frozen=True)
class Sampled:
    """A metric as the mean or the median of its samples, or as the mean over classes of their means.

    Attributes:
        values: (n,) one number for each sample: right or wrong, a rank.
        unit: (n,) integers; samples of one unit, such as the captions of an image, are drawn together.
            None: every sample is a unit.
        statistic: of the samples; the mean where there are labels.
        label: (n,) integers 0..C-1, class of each sample; each class that occurs, also in a resample, has the same
            weight. None: each sample has the same weight.
    """

    values: NDArray
    unit: NDArray | None = None
    statistic: Literal["mean", "median"] = "mean"
    label: NDArray | None = None

    @property
    def value(self) -> float:
        if self.label is not None:
            return _class_mean(np.asarray(self.values, np.float64), np.ones(len(self.values)), self.label)
        return float(np.median(self.values) if self.statistic == "median" else np.mean(self.values))


def values_of(samples: Mapping[str, Sampled]) -> dict[str, float]:
    """The metrics alone."""
    return {name: sampled.value for name, sampled in samples.items()}


def difference_intervals(
    first: Mapping[str, Sampled],
    second: Mapping[str, Sampled],
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of second - first, paired: both checkpoints see the same resampled units.

    Args:
        first: metrics of one checkpoint.
        second: metrics of another one on the same samples.
        level: share of the resamples inside the interval.
        resamples: R; with 1,000 the ends of the interval vary by a few percent of its width from draw to draw.

    Returns:
        metric -> (low, high), for the metrics that both have.

    Raises:
        HelipError: the two were not measured on the same number of samples.
    """
    intervals = {}
    for name in (name for name in first if name in second):
        one, two = first[name], second[name]
        if len(one.values) != len(two.values):
            raise HelipError(
                f"{name} was measured on {len(one.values)} samples of one checkpoint and {len(two.values)} of another: "
                "the data changed in between, run the comparison again"
            )
        unit = np.arange(len(one.values)) if one.unit is None else np.unique(one.unit, return_inverse=True)[1]
        units, rng, difference = int(unit.max()) + 1, np.random.default_rng(0), _difference(one, two, unit)
        found = [difference(np.bincount(rng.integers(0, units, units), minlength=units)) for _ in range(resamples)]
        low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
        intervals[name] = (float(low), float(high))
    return intervals


def _difference(one: Sampled, two: Sampled, unit: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], float]:
    """The metric of `two` minus that of `one` in a resample, as a function of how often each unit is in it, (U,)."""
    change = np.asarray(two.values, np.float64) - np.asarray(one.values, np.float64)
    if (label := one.label) is not None:

        def of_classes(count: NDArray[np.int64]) -> float:
            weights = count[unit].astype(np.float64)
            return _class_mean(weights * change, weights, label)

        return of_classes
    if one.statistic == "median":
        orders = [np.argsort(sampled.values, kind="stable") for sampled in (one, two)]

        def of_medians(count: NDArray[np.int64]) -> float:
            medians = []
            for sampled, order in zip((one, two), orders, strict=True):
                reached = np.cumsum(count[unit[order]])  # samples of the resample up to each sorted value
                middle = np.searchsorted(reached, [(reached[-1] - 1) // 2, reached[-1] // 2], side="right")
                medians.append(np.mean(sampled.values[order[middle]]))
            return float(medians[1] - medians[0])

        return of_medians
    change_sum, size = np.bincount(unit, change), np.bincount(unit)
    return lambda count: float(count @ change_sum / (count @ size))


def _class_mean(sums: NDArray, weights: NDArray, label: NDArray) -> float:
    """Mean of the weighted means of the classes with positive weight; `sums` are the weighted values."""
    size = np.bincount(label, weights)  # (C,)
    drawn = size > 0
    return float((np.bincount(label, sums)[drawn] / size[drawn]).mean())
