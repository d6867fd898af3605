"""Plain, obviously right versions of what the library does fast."""

from typing import Any

import numpy as np


def unit64(x: np.ndarray) -> np.ndarray:
    """(N, d) any float -> (N, d) float64 rows of length 1."""
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def brute_hard_pairs(
    image: np.ndarray,
    text: np.ndarray,
    k: int,
    score: str = "joint",
    near_duplicate: Any = 0.98,
    min_similarity: Any = 0.0,
    skip_first: int = 0,
    valid: np.ndarray | None = None,
    image_group: np.ndarray | None = None,
    text_group: np.ndarray | None = None,
    targets: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Hard pairs of some targets by float64 matrices and a full sort, rows (T, k) -1 padded and their three scores."""
    a, b = unit64(image), unit64(text)
    high, low = np.broadcast_to(near_duplicate, 2), np.broadcast_to(min_similarity, 2)
    n = len(a)
    targets = np.arange(n) if targets is None else targets
    valid = np.ones(n, bool) if valid is None else valid
    shape = (len(targets), k)
    out = (np.full(shape, -1), np.zeros(shape), np.zeros(shape), np.zeros(shape))
    for start in range(0, len(targets), 256):
        some = targets[start : start + 256]
        # a limit of 1 means no limit, so that rounding must not take a copy's cosine above it
        images, texts = np.clip(a[some] @ a.T, -1, 1), np.clip(b[some] @ b.T, -1, 1)
        for t, i in enumerate(some):
            x, y = images[t], texts[t]
            value = {"joint": np.where((x > 0) & (y > 0), x * y, 0), "image": x, "text": y}[score]
            alive = valid & valid[i] & (value > 0) & (np.arange(n) != i) & (x <= high[0]) & (y <= high[1])
            if score != "text":
                alive &= x >= low[0]
            if score != "image":
                alive &= y >= low[1]
            for group in (image_group, text_group):
                if group is not None:
                    alive &= (group != group[i]) | (group < 0)
            rows = np.flatnonzero(alive)
            # 12 decimals: rows that are the same vectors must tie, whatever order BLAS summed them in
            best = rows[np.lexsort((rows, -np.round(value[rows], 12)))][skip_first : skip_first + k]
            for array, values in zip(out, (np.arange(n), value, x, y), strict=True):
                array[start + t, : len(best)] = values[best]
    return out
