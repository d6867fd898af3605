"""What a search will cost, from measured rates of this machine, and the backend that `auto` chooses by it."""

from math import floor, log2

import torch

from helip.mining.exact import fast_dtype, product_seconds
from helip.mining.settings import SearchSettings

ASSUMED_WIDTH = 1152  # d_I + d_T of DINOv2 ViT-S and mpnet, until the encoders are loaded
SHARE = 0.6  # of the rate of bare products that a search reaches: 0.59 for 37,490 pairs on two cores; GPUs not timed
EXACT_ON_CPU = 2e15  # floating point operations: about 20 minutes to an hour on two to four server cores with bfloat16
GPU_SECONDS = 1200


def describe_cost(rows: int, total_rows: int, depth: int, device: torch.device, world_size: int) -> str:
    """Rows, operations (2 N^2 (d_I + d_T)), bytes and the time of an exact search on this device.

    Args:
        rows: number of rows that are searched.
        total_rows: number of rows of the dataset, and of the files.
        depth: hard pairs stored per row.
        device, world_size: where the search runs, and on how many ranks.
    """
    operations = 2.0 * rows**2 * ASSUMED_WIDTH
    disk = total_rows * (ASSUMED_WIDTH * 4 + 1 + depth * 16)
    rate = gemm_rate(device) * world_size
    return (
        f"{rows:,} rows, about {operations:.1e} FLOP for an exact search ({duration(operations / (SHARE * rate))} at "
        f"{SHARE:.0%} of this machine's {rate / 1e12:.2g} TFLOP/s), {disk / 2**30:.2g} GiB on disk for embeddings and "
        "index"
    )


def gemm_rate(device: torch.device) -> float:
    """Floating point operations per second of bare products in the precision of the search, by a short trial."""
    size = 8192 if device.type == "cuda" else 1024
    return 2 * size**3 / product_seconds(fast_dtype(device), device, size)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    for limit, unit, scale in ((120, "s", 1), (7200, "min", 60)):
        if seconds < limit:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"


def choose(settings: SearchSettings, count: int, width: int, rate: float | None) -> tuple[str, str]:
    """Backend and the reason for it.

    On a CPU `auto` compares the number of operations with a constant, so that equal settings give one index. Rates of
    GPUs differ thirtyfold, so there the limit is what this card does in 20 minutes, its rate rounded down to a
    power of two.

    Args:
        settings: a `backend` other than "auto" is used as it is.
        count: valid rows.
        width: d_I + d_T.
        rate: floating point operations per second of bare products on a GPU, see `gemm_rate`; None on a CPU.
    """
    if settings.backend != "auto":
        return settings.backend, f"search.backend={settings.backend}"
    operations = 2.0 * count * count * width
    limit = EXACT_ON_CPU if rate is None else GPU_SECONDS * 2.0 ** floor(log2(SHARE * rate))
    small = operations <= limit
    sign, backend = ("at most", "exact") if small else ("more than", "approximate")
    where = "a CPU" if rate is None else "this GPU"
    return backend, f"{count:,} rows of width {width} are {operations:.2g} operations, {sign} {limit:.0e} for {where}"
