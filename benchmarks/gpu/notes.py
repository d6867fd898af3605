"""What the stages of gpu.sh share: the device, generated embeddings, and a file of notes that a time limit cannot lose.

BENCH_DEVICE=cpu dry-runs every stage without a GPU, BENCH_ROWS and BENCH_PHOTOS make it small.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

DEVICE = os.environ.get("BENCH_DEVICE", "cuda")
GPU = DEVICE != "cpu"
ROWS = int(os.environ.get("BENCH_ROWS", 3_000_000))
PHOTOS = int(os.environ.get("BENCH_PHOTOS", 8192))
SECONDS = float(os.environ.get("BENCH_SECONDS", 45))  # of searching in the mining stage
WIDTHS = (384, 768)  # of the default encoders
DEPTH = 50
DRAWN = 1 << 18  # rows that are generated at once


class Notes:
    """Results of a stage, on the screen and in a file, one by one.

    Args:
        stage: its name.
        folder: of the file.
    """

    def __init__(self, stage: str, folder: Path) -> None:
        self.stage, self.path, self.known = stage, folder / f"{stage}.json", dict[str, Any]()
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, value: object) -> None:
        """Keep one result."""
        self.known[name] = value
        print(f"{self.stage:8} {name}: {value}", flush=True)
        self.path.write_text(json.dumps(self.known, indent=1, default=str) + "\n")

    def attempt(self, name: str, run: Callable[[], object]) -> None:
        """Keep what `run` returns, or its error: one failure must not lose the others."""
        try:
            result = run()
        except Exception as error:
            result = f"FAILED {type(error).__name__}: {str(error)[:300]}"
        if result is not None:
            self(name, result)


def wait() -> None:
    """For the device."""
    if GPU:
        torch.cuda.synchronize()


def milliseconds(run: Callable[[], object]) -> float:
    """Median of some runs, after a warm-up."""
    if GPU:
        from triton.testing import do_bench

        median: Any = do_bench(run, warmup=10, rep=60, return_mode="median")
        return float(median)
    from time import perf_counter

    began = perf_counter()
    run()
    return (perf_counter() - began) * 1e3


def generated(rows: int, seed: int) -> list[torch.Tensor]:
    """Image and text (rows, width) float16 on the device: clusters in a cone, as `benchmarks.synthetic` makes them."""
    draw = torch.Generator(DEVICE).manual_seed(seed)
    clusters = max(2, int(rows**0.5))
    member = torch.randint(0, clusters, (rows,), generator=draw, device=DEVICE)
    arrays: list[torch.Tensor] = []
    for width in WIDTHS:
        cone = torch.randn(width, generator=draw, device=DEVICE)
        family = torch.randn(clusters // 8 + 1, width, generator=draw, device=DEVICE)
        centre = 0.7 * cone + 0.7 * family[torch.arange(clusters, device=DEVICE) // 8]
        centre = torch.nn.functional.normalize(centre + torch.randn(clusters, width, generator=draw, device=DEVICE))
        array = torch.empty(rows, width, dtype=torch.float16, device=DEVICE)
        for start in range(0, rows, DRAWN):
            part = slice(start, min(start + DRAWN, rows))
            own = torch.randn(part.stop - start, width, generator=draw, device=DEVICE) * (0.8 / width**0.5)
            array[part] = (centre[member[part]] + own).half()
        arrays.append(array)
    return arrays
