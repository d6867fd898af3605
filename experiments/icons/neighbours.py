"""The nearest other icons of each icon by names and pixels; no model is involved.

    near(i, j) = weight of the words of both / weight of the words of either + cosine(ink of i, ink of j)

The words are those of the caption. A word in c of n captions weighs about ln(n / c), so a rare word counts more.
Ink is white minus grey value, on 16x16 pixels. Both terms lie in 0..1 and come from sums of whole numbers, which
float64 holds exactly, so the order depends on no library. Icons with the same caption are no neighbours, because a
query cannot tell them apart.

Legend: n icons of a part, P pixels, V words, k neighbours.
"""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COUNT = 15  # k: a gallery is an icon and its neighbours, 16 in all
BLOCK = 512
INK_SIDE = 16


def ink(pictures: Sequence[bytes]) -> NDArray[np.float64]:
    """(n, P) whole numbers: the ink of encoded images, summed over squares of 2x2 pixels."""
    rows = []
    for data in pictures:
        dark = 255 - np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.int64)
        rows.append(dark.reshape(INK_SIDE, dark.shape[0] // INK_SIDE, INK_SIDE, -1).sum((1, 3)).ravel())
    return np.stack(rows).astype(np.float64)


def nearest(captions: Sequence[str], inks: NDArray[np.float64], count: int = COUNT) -> NDArray[np.int64]:
    """(n, k) positions of the nearest icons of another caption, nearest first; ties by position.

    Args:
        captions: n of them.
        inks: (n, P), of `ink`.
        count: k, below the number of other captions.
    """
    has, weight = _words(captions)  # (n, V), (V,)
    group = np.unique(np.asarray(captions), return_inverse=True)[1]  # (n,)
    size, length = has @ weight, np.sqrt((inks**2).sum(1))  # (n,), (n,)
    found = np.empty((len(captions), count), np.int64)
    for start in range(0, len(captions), BLOCK):
        rows = slice(start, start + BLOCK)
        both = (has[rows] * weight) @ has.T  # (block, n)
        near = both / (size[rows, None] + size - both)
        near += inks[rows] @ inks.T / (length[rows, None] * length)
        near[group[rows, None] == group] = -1
        found[rows] = np.argsort(-near, axis=1, kind="stable")[:, :count]
    return found


def _words(captions: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, V) 1 where a caption has a word, and (V,) the weight of each word, in whole hundredths."""
    vocabulary = {word: column for column, word in enumerate(sorted({w for text in captions for w in text.split()}))}
    has = np.zeros((len(captions), len(vocabulary)))
    for row, text in enumerate(captions):
        has[row, [vocabulary[word] for word in text.split()]] = 1
    return has, 1 + np.round(100 * np.log(len(captions) / has.sum(0)))
