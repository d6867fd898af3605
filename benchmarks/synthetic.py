"""The one generator of synthetic embeddings: clusters within clusters, near-duplicates, exact duplicates and ties.

Real image and text embeddings are dense around many centres of very different size, and contain copies. Gaussian noise
has none of that: every index looks perfect on it, or useless.

    python -m benchmarks.synthetic OUT --count 1000000 --image 128 --text 128 --dtype float16 --seed 0
"""

import argparse
from pathlib import Path

import numpy as np


def clustered(
    count: int,
    image: int,
    text: int,
    *,
    clusters: int | None = None,
    spread: float = 0.8,
    copies: float = 0.02,
    seed: int = 0,
    dtype: str = "float32",
    folder: Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose image and text agree on a cluster, each with noise of its own.

    Args:
        count: N.
        image, text: widths.
        clusters: number of centres, their sizes falling as 1/rank^0.5; None: sqrt(N) drawn up or down by up to 2 from
            the seed.
        spread: length of a row's own part beside its centre of length 1.
        copies: share of rows that repeat an earlier row's image (a third), caption (a third) or both (a third).
        seed: everything follows from it and from the other arguments.
        dtype: of the arrays.
        folder: write image.npy and text.npy there and return memmaps; in memory if None.

    Returns:
        (N, image) and (N, text) arrays, not normalised.
    """
    rng = np.random.default_rng(seed)
    clusters = clusters or max(2, int(np.sqrt(count) * rng.uniform(0.5, 2)))
    weights = 1 / np.sqrt(1 + np.arange(clusters))
    member = rng.choice(clusters, count, p=weights / weights.sum())
    arrays = tuple(_empty(name, count, width, dtype, folder) for name, width in (("image", image), ("text", text)))
    for array in arrays:
        _fill(array, member, clusters, spread, rng)
    again = np.flatnonzero(rng.random(count) < copies)
    again = again[again > 0]
    source = (rng.random(len(again)) * again).astype(np.int64)
    kind = rng.integers(0, 3, len(again))
    for row, origin, what in zip(again, source, kind, strict=True):
        for modality, array in enumerate(arrays):
            if what in (modality, 2):
                array[row] = array[origin]
    return arrays  # type: ignore[return-value]


def _empty(name: str, count: int, width: int, dtype: str, folder: Path | None) -> np.ndarray:
    if folder is None:
        return np.empty((count, width), dtype)
    folder.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.dtype(dtype), shape=(count, width))


def _fill(array: np.ndarray, member: np.ndarray, clusters: int, spread: float, rng: np.random.Generator) -> None:
    """Centres share a common direction (real embeddings fill a cone) and sit in families of eight."""
    width = array.shape[1]
    cone = rng.standard_normal(width)
    family = rng.standard_normal((clusters // 8 + 1, width))
    centre = 0.7 * cone + 0.7 * family[np.arange(clusters) // 8] + rng.standard_normal((clusters, width))
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    for start in range(0, len(array), 65536):
        rows = slice(start, min(start + 65536, len(array)))
        own = rng.standard_normal((rows.stop - start, width)) * (spread / np.sqrt(width))
        array[rows] = (centre[member[rows]] + own).astype(array.dtype)


def main() -> None:
    """Write image.npy and text.npy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--image", type=int, default=384)
    parser.add_argument("--text", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=None)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    clustered(
        args.count, args.image, args.text, clusters=args.clusters, seed=args.seed, dtype=args.dtype, folder=args.folder
    )
    print(f"{args.folder}: {args.count} pairs, {args.image} + {args.text}, {args.dtype}, seed {args.seed}")


if __name__ == "__main__":
    main()
