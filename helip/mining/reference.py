"""The definition of a hard pair in plain float64, with which the tests and `mine.py verify=true` compare the search.

A hard pair of row i is another row j that is similar to it in both modalities. Its score is the product of the cosine
of the images, x, and that of the captions, y (arXiv 2305.05208, equation 1); it is 0 where one of them is not positive.
A pair is excluded if it is too similar (a near-duplicate), not similar enough, or a copy of the image or the caption.
Of several other rows with the same image and caption bytes only the lowest is a candidate. The k hard pairs of a row
are those with the highest scores; of equal scores the lower row comes first.

Legend: N rows, T targets, R rows looked at together, k partners.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 256  # targets whose (T, N) cosines are in memory together
DECIMALS = 12  # rounding makes equal vectors tie, whatever order BLAS summed them in


def pair_score(x: NDArray[np.float64], y: NDArray[np.float64], score: str) -> NDArray[np.float64]:
    """(T, R) ranking scores: "joint", the product of the cosines, or the cosine of the "image" or the "text" alone.

    Args:
        x, y: (T, R) cosines of the images and of the captions.
        score: "joint", "image" or "text".
    """
    return np.where((x > 0) & (y > 0), x * y, 0.0) if score == "joint" else (x if score == "image" else y)


def may_pair(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    targets: NDArray[Any],
    others: NDArray[Any],
    room: float = 0.0,
    *,
    lows: tuple[float, float],
    highs: tuple[float, float],
    valid: NDArray[np.bool_],
    groups: tuple[NDArray[Any] | None, NDArray[Any] | None] = (None, None),
    lowest: NDArray[Any] | None = None,
) -> NDArray[np.bool_]:
    """(T, R) pairs that the rules allow, whatever their score.

    Args:
        x, y: (T, R) cosines of the images and of the captions, from -1 to 1.
        targets: (T,) rows.
        others: (T, R) or (1, R) rows, none negative.
        room: tolerance for rounding; above 0 it widens the limits, below 0 it narrows them.
        lows: lowest cosine of (image, text); minus infinity where it does not enter the score.
        highs: highest cosine of (image, text); 1 is no limit.
        valid: (N,) rows that take part.
        groups: per modality, (N,) equal for copies, negative for rows without a group; None where unknown.
        lowest: from `lowest_copies`; None: copies of a partner are partners too.
    """
    own = targets[:, None]
    allowed = valid[others] & valid[own] & (others != own)
    allowed = allowed & (x >= lows[0] - room) & (y >= lows[1] - room) & (x <= highs[0] + room) & (y <= highs[1] + room)
    for group in groups:
        if group is not None:
            allowed = allowed & ((group[others] != group[own]) | (group[others] < 0))
    if lowest is not None:  # only the lowest row with the same bytes, not counting the target itself
        one, two = lowest[others, 0], lowest[others, 1]
        allowed = allowed & ((one == len(lowest)) | (others == one) & (one != own) | (others == two) & (one == own))
    return np.asarray(allowed, np.bool_)


def lowest_copies(pair_group: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """(N, 2) the two lowest rows with the bytes of each row, N where there are none.

    Args:
        pair_group: (N,) equal for rows of the same bytes, negative for rows without copies.
        valid: (N,) rows that take part.
    """
    rows = np.flatnonzero(valid & (pair_group >= 0))
    lowest: NDArray[np.int64] = np.full((len(valid), 2), len(valid), np.int64)
    if len(rows):
        ids, place = np.unique(pair_group[rows], return_inverse=True)
        two: NDArray[np.int64] = np.full((len(ids), 2), len(valid), np.int64)
        np.minimum.at(two[:, 0], place, rows)
        later = rows != two[place, 0]
        np.minimum.at(two[:, 1], place[later], rows[later])
        lowest[rows] = two[place]
    return lowest


def hard_pairs(
    image: NDArray[Any],
    text: NDArray[Any],
    k: int,
    score: str = "joint",
    near_duplicate: Any = 0.98,
    min_similarity: Any = 0.0,
    skip_first: int = 0,
    valid: NDArray[np.bool_] | None = None,
    image_group: NDArray[Any] | None = None,
    text_group: NDArray[Any] | None = None,
    pair_group: NDArray[Any] | None = None,
    targets: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Hard pairs of some targets by float64 matrices and a full sort.

    Args:
        image, text: (N, d) embeddings of any float type and length.
        k: partners of each target.
        score, near_duplicate, min_similarity, skip_first: as SearchSettings has them.
        valid: (N,) rows that take part; None: all.
        image_group, text_group: (N,) equal for copies, negative for none.
        pair_group: (N,) equal for copies of whole pairs, negative for none.
        targets: (T,) rows; None: all.

    Returns:
        (T, k) rows, -1 where there are no more, and their joint, image and text scores.
    """
    a, b = unit64(image), unit64(text)
    count = len(a)
    high, low = np.broadcast_to(near_duplicate, 2), np.broadcast_to(min_similarity, 2)
    lows = (-np.inf if score == "text" else float(low[0]), -np.inf if score == "image" else float(low[1]))
    highs = float(high[0]), float(high[1])
    targets = np.arange(count) if targets is None else targets
    valid = np.ones(count, bool) if valid is None else valid
    lowest = None if pair_group is None else lowest_copies(pair_group, valid)
    others, shape = np.arange(count)[None], (len(targets), k)
    out = (np.full(shape, -1), np.zeros(shape), np.zeros(shape), np.zeros(shape))
    for start in range(0, len(targets), BLOCK):
        some = targets[start : start + BLOCK]
        # a limit of 1 is no limit, so rounding must not raise a copy's cosine above it
        x, y = np.clip(a[some] @ a.T, -1, 1), np.clip(b[some] @ b.T, -1, 1)
        value = pair_score(x, y, score)
        alive = (value > 0) & may_pair(
            x, y, some, others, lows=lows, highs=highs, valid=valid, groups=(image_group, text_group), lowest=lowest
        )
        for t in range(len(some)):
            rows = np.flatnonzero(alive[t])
            falling = -np.round(np.asarray(value[t], np.float64)[rows], DECIMALS)
            best = rows[np.argsort(falling, kind="stable")][skip_first : skip_first + k]
            for array, values in zip(out, (np.arange(count), value[t], x[t], y[t]), strict=True):
                array[start + t, : len(best)] = values[best]
    return out


def unit64(x: NDArray[Any]) -> NDArray[np.float64]:
    """(N, d) of any float type -> (N, d) float64 rows of length 1."""
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
