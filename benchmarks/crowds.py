"""The cost of a crowd of copies: one placeholder picture under many captions, as in crawled data.

The rows of a crowd are near-duplicates of each other, with scores above those of true hard pairs: a search that keeps
forbidden pairs runs out of room on each of these rows. Each round mines without a crowd and with each crowd in turn.
The figures are medians over rounds of the CPU seconds of all threads, without the set-up.

    python -m benchmarks.crowds --rows 24000 --shares 0.01 0.125 --rounds 3
"""

import argparse
import statistics
from time import process_time

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.synthetic import clustered
from helip.mining.exact import ExactSearch
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs


def with_crowd(image: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, d) of which a share, drawn anywhere, are copies of one, and (N,) groups of equal ones."""
    crowd = np.random.default_rng(seed).choice(len(image), int(share * len(image)), replace=False)
    copied, group = image.copy(), np.full(len(image), -1)
    if len(crowd):
        copied[crowd], group[crowd] = image[crowd[0]], 0
    return copied, group


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=24_000)
    parser.add_argument("--width", type=int, default=384, help="of image and of text embeddings")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.01, 0.125], help="of rows that are the crowd")
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    image, text = clustered(args.rows, args.width, args.width, copies=0.0)
    searches: dict[float, ExactSearch] = {}
    for share in (0.0, *args.shares):
        copied, group = with_crowd(image, share)
        searches[share] = ExactSearch(open_pairs(copied, text, image_group=group), SearchSettings(depth=args.k))
    seconds: dict[float, list[float]] = {share: [] for share in searches}
    redone: dict[float, int] = {}
    for _ in range(args.rounds):
        for share, search in searches.items():
            began = process_time()
            redone[share] = search.search(range(args.rows)).redone
            seconds[share].append(process_time() - began)
    table = Table(title=f"{args.rows:,} pairs, {args.width} + {args.width}, k = {args.k}")
    for header in ("crowd, rows", "CPU s", "x none", "redone"):
        table.add_column(header, justify="right")
    median = {share: statistics.median(times) for share, times in seconds.items()}
    for share, value in median.items():
        count = int(share * args.rows)
        table.add_row(f"{count:,}", f"{value:.2f}", f"{value / median[0.0]:.2f}", f"{redone[share]:,}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
