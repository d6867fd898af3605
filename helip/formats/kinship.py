"""Tests whether listed pairs are related: hard pairs are more similar than the same rows paired at random.

This check finds fault 1 (docs/from_helip_release.md): an id that is read as the wrong row is still a valid row, so
nothing fails; the pairs are just unrelated.
Legend: P sampled pairs.
"""

import re
from collections.abc import Callable

import numpy as np

from helip.data.reader import SampleReader, caption_of

SURE = 4.0  # standard errors: probability 1 in 30,000 for unrelated pairs, if the differences are normal
Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_embeddings(image: np.ndarray, text: np.ndarray) -> Similarity:
    """The joint score: the product of the two cosines. Arrays (N, d_I) and (N, d_T), normalised or not."""

    def similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.prod([_cosines(side, left, right) for side in (image, text)], axis=0)

    return similarity


def _cosines(vectors: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    a, b = (np.asarray(vectors[rows], np.float64) for rows in (left, right))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("ij,ij->i", a, b) / np.where(lengths > 0, lengths, 1.0)


def by_captions(reader: SampleReader) -> Similarity:
    """Jaccard similarity of the words of two captions; needs only the shards."""
    words: dict[int, frozenset[str]] = {}

    def words_of(row: int) -> frozenset[str]:
        if row not in words:
            words[row] = frozenset(re.findall(r"\w+", (caption_of(reader, row) or "").lower()))
        return words[row]

    def similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        pairs = [(words_of(int(a)), words_of(int(b))) for a, b in zip(left, right, strict=True)]
        return np.array([len(a & b) / len(a | b) if a | b else 0.0 for a, b in pairs])

    return similarity


def kinship(targets: np.ndarray, partners: np.ndarray, similarity: Similarity) -> float:
    """How many standard errors pairs are more similar than the same targets with shuffled partners.

    Args:
        targets: (P,) rows.
        partners: (P,) rows.

    Returns:
        Above SURE the pairs are related. 0 for fewer than eight pairs.
    """
    if len(targets) < 8:
        return 0.0
    shuffled = np.random.default_rng(0).permutation(partners)
    gain = similarity(targets, partners) - similarity(targets, shuffled)
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return float(gain.mean() / error) if error > 0 else (np.inf if gain.mean() > 0 else 0.0)
