"""Number of loader processes and prefetched batches, by the cores and the memory of the machine."""

import os
import shutil
from pathlib import Path

import torch

from helip.environment import cores
from helip.ranks import TrainerSpec

SHARED_MEMORY = Path("/dev/shm")
MOST_WORKERS = 16  # at 2 ms of decoding and cropping per 224-px photo (docs/training.md) 8,000 pairs/s


def loader_workers(workers: int | str, spec: TrainerSpec) -> int:
    """Loader processes per rank. `auto`: with a GPU the cores of the rank, at most 16; on the CPU one per 16 cores."""
    if workers != "auto":
        return int(workers)
    gpus = spec.accelerator != "cpu" and torch.cuda.is_available()
    asked = len(spec.devices) if isinstance(spec.devices, list) else spec.devices
    ranks = asked if isinstance(asked, int) and asked > 0 else torch.cuda.device_count() if gpus else 1
    share = cores() // max(1, ranks)
    return max(1, min(MOST_WORKERS, share) if gpus else share // 16)


def loader_prefetch(prefetch: int | str, workers: int, batch_bytes: int) -> int:
    """Batches that each worker keeps ready. `auto`: 4, or as many as fit into half of the shared memory.

    `batch_bytes` is the size of a step over all ranks, an upper bound for the ranks of one machine.
    """
    if prefetch != "auto":
        return int(prefetch)
    fitting = shared_memory() // 2 // max(1, workers * batch_bytes)
    return max(1, min(4, fitting))


def shared_memory() -> int:
    """Free bytes for batches in transfer: the smaller of free RAM and /dev/shm, which is often small in containers."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(free, shutil.disk_usage(SHARED_MEMORY).free) if SHARED_MEMORY.is_dir() else free


def describe_loader(workers: int, prefetch: int, batch_bytes: int) -> str:
    """A line about the loader, with a warning if its batches do not fit into the shared memory."""
    if not workers:
        return "loader: in the main process (data.workers=0)"
    size = workers * prefetch * batch_bytes
    processes = "1 worker" if workers == 1 else f"{workers} workers"
    ahead = "1 batch" if prefetch == 1 else f"{prefetch} batches"
    line = f"loader: {processes} a rank, each {ahead} ahead, {size / 2**30:.2f} GiB in all"
    if size > shared_memory():
        line += f"; only {shared_memory() / 2**30:.2f} GiB of shared memory are free, so workers will be killed: lower"
        line += " data.workers or data.prefetch, or give a container more (docker run --shm-size)"
    return line
