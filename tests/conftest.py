"""Settings before torch is imported, and state that a test must not leave to the next one."""

import os
import sys
from collections.abc import Iterator

import pytest

# The models of the tests are tiny: with a thread per core they wait for each other five times longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _rank_of_the_process() -> Iterator[None]:
    """Lightning keeps the rank of the last strategy; after a test of rank 1, no logger would write."""
    yield
    lightning = sys.modules.get("lightning_utilities.core.rank_zero")
    if lightning is not None:
        lightning.rank_zero_only.rank = 0
