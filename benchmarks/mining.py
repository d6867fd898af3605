"""Speed of mining beside its rivals, in one process, in turn.

Rivals: the released algorithm, which we restate (float32, both score matrices written, limits, product, topk, 600
targets a batch); torch's matrix product + topk on one modality; and the bare matrix products of the bulk pass, which
are the roofline. Every round times a slice of each, so that other jobs on the machine disturb all of them. A slice is
scaled to all N targets, and the table gives its size. The recall of shortcuts is measured on rows that they do not
probe themselves, against the exact search.

    python -m benchmarks.mining image.npy text.npy --k 50 --rounds 5
    python -m benchmarks.mining --synthetic 200000 --image 384 --text 384 --backends exact approximate
    python -m benchmarks.mining image.npy text.npy --device cuda --json experiments/bench/h100.json
"""

import argparse
import json
import platform
import resource
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.synthetic import clustered
from helip.mining.exact import ExactSearch, fast_dtype
from helip.mining.miner import mine
from helip.mining.probe import overlap
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, open_pairs

BATCH = 600  # targets of the released script
SLICE = 2400  # targets timed in a round


def released(image: torch.Tensor, text: torch.Tensor, rows: range, k: int, limit: float = 0.98) -> torch.Tensor:
    """The released algorithm on normalised float32 (N, d) tensors: (T, k) rows. Its misaligned ids are left out."""
    found = []
    for start in range(rows.start, rows.stop, BATCH):
        part = slice(start, min(start + BATCH, rows.stop))
        similar_image, similar_text = image[part] @ image.T, text[part] @ text.T
        similar_image[similar_image > limit] = 0
        similar_text[similar_text > limit] = 0
        found.append((similar_image * similar_text).topk(k, dim=1).indices)
    return torch.cat(found)


def matmul_topk(image: torch.Tensor, rows: range, k: int) -> torch.Tensor:
    """Nearest neighbours by one modality, the fastest that plain torch does."""
    return torch.cat(
        [
            (image[s : min(s + BATCH, rows.stop)] @ image.T).topk(k, dim=1).indices
            for s in range(rows.start, rows.stop, BATCH)
        ]
    )


def bare_products(image: torch.Tensor, text: torch.Tensor, rows: range) -> None:
    """Both matrix products in blocks, without using them."""
    for start in range(rows.start, rows.stop, 1024):
        for values in (image, text):
            for first in range(0, len(values), 8192):
                torch.mm(values[start : min(start + 1024, rows.stop)], values[first : first + 8192].T)


def by_turns(runs: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each run, one per round; the first round is not counted.

    CPU seconds are those of all threads of this process, which other jobs on a shared machine disturb least.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start, used = perf_counter(), process_time()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[name].append((perf_counter() - start, process_time() - used))
    return {name: times[1:] for name, times in seconds.items()}


def normalised(array: np.ndarray, device: str) -> torch.Tensor:
    """(N, d) float32."""
    return torch.nn.functional.normalize(torch.from_numpy(np.array(array, np.float32)).to(device))


def time_slices(
    pairs: Pairs, k: int, rounds: int, device: str, slice_rows: int, rivals: bool
) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds for all N targets, each scaled from a slice."""
    rows = range(min(slice_rows, len(pairs)))
    search = ExactSearch(pairs, SearchSettings(depth=k, near_duplicate=0.98), device=device)
    runs: dict[str, Callable[[], object]] = {"exact": lambda: search.search(rows)}
    if rivals:
        image, text = (normalised(v.array, device) for v in pairs.modalities)
        dtype = fast_dtype(torch.device(device))
        half = image.to(dtype), text.to(dtype)
        runs |= {
            "released algorithm": lambda: released(image, text, rows, k),
            "matmul + topk, image only": lambda: matmul_topk(image, rows, k),
            "bare products (roofline)": lambda: bare_products(*half, rows),
        }
    times = by_turns(runs, rounds, device)
    scale = len(pairs) / len(rows)
    return {name: [(wall * scale, cpu * scale) for wall, cpu in values] for name, values in times.items()}


def time_whole(
    pairs: Pairs, settings: SearchSettings, device: str, rows: np.ndarray, truth: np.ndarray
) -> dict[str, Any]:
    """Seconds of a complete `mine`, and its recall on rows that it did not probe."""
    with tempfile.TemporaryDirectory() as folder:
        start, used = perf_counter(), process_time()
        pairs = open_pairs(pairs.image.array, pairs.text.array)
        index = mine(pairs, Path(folder) / "index", settings, device=device, progress=False)
        seconds, cpu = perf_counter() - start, process_time() - used
        found = np.asarray(index.rows[rows])
        return {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "recall": float(overlap(found, truth).sum() / (truth >= 0).sum()),
            "stated": index.meta["statistics"].get("recall"),
            "search": index.meta["search"],
        }


def check_exact(pairs: Pairs, k: int, device: str, count: int) -> float:
    """Share of sampled targets whose rows equal a float64 brute force."""
    from helip.mining.reference import hard_pairs

    rows = np.sort(np.random.default_rng(1).choice(len(pairs), min(count, len(pairs)), replace=False))
    found = ExactSearch(pairs, SearchSettings(depth=k), device=device).search_rows(rows).rows
    plain = hard_pairs(pairs.image.array, pairs.text.array, k, targets=rows)[0]
    return float((found == plain).all(axis=1).mean())


def report(result: dict[str, Any], console: Console) -> None:
    """Print the table: median seconds, spread, rates and ratios."""
    operations = 2.0 * result["rows"] ** 2 * result["width"]
    table = Table(title=f"{result['rows']:,} pairs of width {result['width']}, k = {result['k']}, {result['hardware']}")
    for header in (
        "",
        "seconds for all",
        "spread",
        "CPU s",
        "TFLOP/s",
        "share of roofline",
        "x released",
        "x in CPU s",
    ):
        table.add_column(header, justify="right" if header else "left")
    median, cpu = ({n: statistics.median(t[m] for t in ts) for n, ts in result["seconds"].items()} for m in (0, 1))
    roof, old = median.get("bare products (roofline)"), median.get("released algorithm")
    for name, seconds in median.items():
        times = [wall for wall, _ in result["seconds"][name]]
        done = operations * (result["image_width"] / result["width"] if "image only" in name else 1)
        table.add_row(
            name,
            f"{seconds:.1f}",
            f"{min(times):.1f} to {max(times):.1f}",
            f"{cpu[name]:.1f}",
            f"{done / seconds / 1e12:.2f}",
            f"{roof / seconds:.0%}" if roof else "-",
            f"{old / seconds:.2f}" if old else "-",
            f"{cpu['released algorithm'] / cpu[name]:.2f}" if old else "-",
        )
    console.print(table)
    for name in ("check", "whole", "peak_memory_gb", "embeddings_gb"):
        if name in result:
            console.print(f"{name}: {json.dumps(result[name])}")


def hardware(device: str) -> str:
    """The device in words."""
    if device == "cpu":
        return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return torch.cuda.get_device_name()


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("arrays", nargs="*", type=Path, help="image.npy and text.npy")
    parser.add_argument("--rows", type=Path, help="rows of image.npy, one for each text (captions that share an image)")
    parser.add_argument("--synthetic", type=int, help="number of generated pairs instead")
    parser.add_argument("--image", type=int, default=384)
    parser.add_argument("--text", type=int, default=384)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--clusters", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice", type=int, default=SLICE, help="targets timed in a round")
    parser.add_argument("--backends", nargs="*", default=["exact"], help="complete runs: exact approximate pool")
    parser.add_argument("--pool-size", type=int, default=20_000)
    parser.add_argument("--check", type=int, default=0, help="targets compared with a float64 brute force")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings that the command line names."""
    if args.synthetic:
        return clustered(
            args.synthetic, args.image, args.text, clusters=args.clusters, seed=args.seed, dtype=args.dtype
        )
    image, text = (np.load(path, mmap_mode="r") for path in args.arrays)
    return (image[np.load(args.rows)] if args.rows else image), text


def main() -> None:
    """Run and print."""
    args = parse()
    image, text = load(args)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pairs = open_pairs(image, text)
    width = pairs.image.width + pairs.text.width
    result: dict[str, Any] = {
        "rows": len(pairs), "width": width, "image_width": pairs.image.width, "k": args.k,
        "hardware": hardware(args.device), "torch": torch.__version__,
        "embeddings_gb": (image.nbytes + text.nbytes) / 1e9,
    }  # fmt: skip
    rows = np.sort(np.random.default_rng(12345).choice(len(pairs), min(1000, len(pairs)), replace=False))
    truth = ExactSearch(pairs, SearchSettings(depth=args.k), device=args.device).search_rows(rows).rows
    result["whole"] = {}
    for backend in args.backends:
        settings = SearchSettings(depth=args.k, backend=backend, pool_size=args.pool_size)
        result["whole"][backend] = time_whole(pairs, settings, args.device, rows, truth)
    result["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result["memory_before_gb"] = before / 1e6
    result["seconds"] = time_slices(pairs, args.k, args.rounds, args.device, args.slice, not args.no_rivals)
    if args.check:
        result["check"] = {"rows": args.check, "equal": check_exact(pairs, args.k, args.device, args.check)}
    report(result, Console(width=120))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
