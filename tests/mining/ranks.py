"""Mining as several ranks do it, and what must be equal afterwards."""

import threading
from concurrent.futures import ThreadPoolExecutor

from helip.mining.miner import mine

NAMES = ("rows", "scores", "scores_image", "scores_text")


def read_bytes(folder):
    return [(folder / f"{name}.npy").read_bytes() for name in NAMES]


def mine_on_ranks(world, image, text, folder, settings):
    """As `world` processes that share a disk would, but as threads."""
    barrier = threading.Barrier(world)

    def run(rank):
        return mine(image, text, folder, settings, rank=rank, world_size=world, barrier=barrier.wait, progress=False)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))
