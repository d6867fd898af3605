import time
import warnings

import pytest

from helip.training.monitor import SpeedMonitor, slow_reads
from tests.training.tiny import batch_of, fit, tiny_module


def test_slow_reads_are_reported_once(tmp_path):
    def waited_for(step):
        time.sleep(0.05)
        return batch_of(step)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tiny_module(tmp_path), tmp_path, 4, make=waited_for, callbacks=[SpeedMonitor(read_rate=1.0)])
    assert sum("training waits for data" in str(one.message) for one in caught) == 1


def test_the_warning_names_both_rates():
    found = slow_reads(50.0, 1000.0, 0.4)
    assert found is not None
    assert "waits for data 40% of the time" in found
    assert "50 pairs/s and the model could take 1,000" in found and "data.workers" in found


@pytest.mark.parametrize(
    ("read_rate", "needed", "share"),
    [(5000.0, 1000.0, 0.4), (50.0, 1000.0, 0.01), (None, 1000.0, 0.9)],
    ids=["reads are fast", "nobody waits", "unknown"],
)
def test_no_warning_without_need(read_rate, needed, share):
    assert slow_reads(read_rate, needed, share) is None
