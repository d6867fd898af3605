import warnings

import pytest

from helip.training.monitor import SpeedMonitor


def compare(read_rate, waited, needed):
    monitor = SpeedMonitor(read_rate)
    monitor._waited, monitor._elapsed = waited, 1.0
    monitor._compare_reads(needed)
    monitor._compare_reads(needed)


def test_slow_reads_are_reported_once_with_both_rates():
    with pytest.warns(UserWarning, match=r"waits for data 40% .* 50 pairs/s and the model could take 1,000") as caught:
        compare(50.0, 0.4, 1000.0)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("read_rate", "waited", "needed"),
    [(5000.0, 0.4, 1000.0), (50.0, 0.01, 1000.0), (None, 0.9, 1000.0)],
    ids=["reads are fast", "nobody waits", "unknown"],
)
def test_no_word_without_need(read_rate, waited, needed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(read_rate, waited, needed)
