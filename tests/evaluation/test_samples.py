"""Intervals of differences: compared with scipy, with known values, and with samples that are drawn together."""

import numpy as np
import pytest
from scipy import stats

from helip.errors import HelipError
from helip.evaluation.samples import Sampled, difference_intervals, values_of


def both(one, two, **options):
    return difference_intervals({"m": Sampled(one, **options)}, {"m": Sampled(two, **options)})["m"]


def test_values():
    found = {"a": Sampled(np.array([True, False])), "b": Sampled(np.array([1, 9, 2]), statistic="median")}
    assert values_of(found) == {"a": 0.5, "b": 2.0}


def test_equal_checkpoints_differ_by_nothing_and_a_shift_is_exact():
    values = np.random.default_rng(0).normal(size=200)
    assert both(values, values) == (0.0, 0.0)
    low, high = both(values, values + 0.5)  # paired: the spread of the samples themselves plays no part
    assert low == pytest.approx(0.5) and high == pytest.approx(0.5)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_scipy_finds_the_same_interval(statistic):
    rng = np.random.default_rng(1)
    one = rng.integers(1, 50, 151)
    two = np.maximum(1, one - rng.integers(0, 9, 151))
    function = getattr(np, statistic)
    expected = stats.bootstrap(
        (one, two),
        lambda a, b, axis: function(b, axis=axis) - function(a, axis=axis),
        paired=True, method="percentile", vectorized=True, n_resamples=4000, rng=rng,
    ).confidence_interval  # fmt: skip
    got = both(one, two, statistic=statistic)
    assert got == pytest.approx((expected.low, expected.high), abs=0.5 if statistic == "median" else 0.12)


def test_samples_of_one_unit_are_drawn_together():
    # 40 images with 25 captions each that all agree: the interval is that of 40 samples, not of 1,000.
    rng = np.random.default_rng(2)
    one, two = rng.random(40) < 0.5, rng.random(40) < 0.5
    unit = np.repeat(np.arange(40) * 7, 25)  # any integers
    many = {"m": Sampled(np.repeat(one, 25), unit)}, {"m": Sampled(np.repeat(two, 25), unit)}
    assert difference_intervals(*many)["m"] == pytest.approx(both(one, two))


def test_a_mean_per_class_is_one_in_every_resample():
    # 3 classes of 40, 8 and 2 samples; the reference averages each resample's own classes, by its rows.
    rng = np.random.default_rng(4)
    label = np.repeat([0, 1, 2], [40, 8, 2])
    one, two = rng.random(50) < 0.5, rng.random(50) < 0.5

    def per_class(rows):
        means = [[hits[rows][label[rows] == c].mean() for c in np.unique(label[rows])] for hits in (two, one)]
        return np.mean(means[0]) - np.mean(means[1])

    draws = np.random.default_rng(0)  # the seed of difference_intervals
    plain = [per_class(draws.integers(0, 50, 50)) for _ in range(100)]
    pair = {"m": Sampled(one, label=label)}, {"m": Sampled(two, label=label)}
    got = difference_intervals(*pair, resamples=100)["m"]
    assert got == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])))
    assert pair[1]["m"].value - pair[0]["m"].value == pytest.approx(per_class(np.arange(50)))


def test_equal_hits_of_every_class_have_no_interval():
    # All right before and all wrong after: the difference is -1 whatever is drawn, also where class sizes vary.
    label = np.repeat([0, 1], [30, 2])
    pair = {"m": Sampled(np.ones(32), label=label)}, {"m": Sampled(np.zeros(32), label=label)}
    assert difference_intervals(*pair)["m"] == (-1, -1)


def test_a_median_of_units_of_unequal_size_is_the_plain_median_of_the_resample():
    rng = np.random.default_rng(3)
    values, other = rng.integers(0, 20, 30), rng.integers(0, 20, 30)
    unit = rng.integers(0, 6, 30)
    unit[:6] = np.arange(6)
    names = np.unique(unit)
    draws = np.random.default_rng(0)  # the seed of difference_intervals
    plain = []
    for _ in range(50):
        chosen = draws.integers(0, len(names), len(names))
        rows = np.concatenate([np.flatnonzero(unit == names[one]) for one in chosen])
        plain.append(np.median(other[rows]) - np.median(values[rows]))
    first, second = ({"m": Sampled(v, unit, "median")} for v in (values, other))
    got = difference_intervals(first, second, resamples=50)["m"]
    assert got == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])))


def test_other_samples_cannot_be_compared():
    with pytest.raises(HelipError, match="m was measured on 3 samples of one checkpoint and 4 of another"):
        both(np.ones(3), np.ones(4))
