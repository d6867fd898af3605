"""Mining as several ranks do it, and what must be equal afterwards."""

import threading
from concurrent.futures import ThreadPoolExecutor

from helip.artifacts.hard_pairs import ARRAYS
from helip.mining.miner import mine


def read_bytes(folder):
    return [(folder / f"{name}.npy").read_bytes() for name in ARRAYS]


def mine_on_ranks(world, pairs, folder, settings):
    """As `world` processes that share a disk would, but as threads."""
    barrier = threading.Barrier(world)

    def run(rank):
        return mine(pairs, folder, settings, rank=rank, world_size=world, barrier=barrier.wait, progress=False)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))
