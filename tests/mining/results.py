"""Mining on several ranks, and comparison of results to the bit."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from helip.artifacts.hard_pairs import ARRAYS
from helip.mining.miner import mine


def assert_same(left, right):
    """Rows and scores of two results are equal."""
    for name in ARRAYS:
        assert np.array_equal(getattr(left, name), getattr(right, name)), name


def read_bytes(folder):
    return [(folder / f"{name}.npy").read_bytes() for name in ARRAYS]


def mine_on_ranks(world, pairs, folder, settings):
    """Mine on `world` ranks, which are threads instead of processes."""
    barrier = threading.Barrier(world)

    def run(rank):
        return mine(pairs, folder, settings, rank=rank, world_size=world, barrier=barrier.wait, progress=False)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))
