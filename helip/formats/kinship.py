"""Tests whether listed pairs are related: hard pairs are more similar than the same rows paired at random.

This check finds fault 1 (docs/from_helip_release.md): an id that is read as the wrong row is still a valid row, so
nothing fails; the pairs are just unrelated.
Legend: n ids, P sampled pairs.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helip.data.reader import SampleReader, caption_of
from helip.errors import HelipError
from helip.formats.released_files import read_hard_samples

SAMPLE = 2000  # pairs that are tested
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
    """By how many standard errors pairs of rows (P,) are more similar than the same targets with shuffled partners.

    Above SURE the pairs are related. 0 for fewer than eight pairs.
    """
    if len(targets) < 8:
        return 0.0
    shuffled = np.random.default_rng(0).permutation(partners)
    gain = similarity(targets, partners) - similarity(targets, shuffled)
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return float(gain.mean() / error) if error > 0 else (np.inf if gain.mean() > 0 else 0.0)


def rows_of_ids(ids: np.ndarray, row_of_id: np.ndarray) -> np.ndarray:
    """Row of each id (any shape), -1 for none; `row_of_id` (n,) int64 is not empty."""
    return np.where(ids < len(row_of_id), row_of_id.take(ids, mode="clip"), -1)


def agreement(by_url: np.ndarray, by_row: np.ndarray) -> float:
    """Share of the ids with a row `by_url` (n,) that have the same row `by_row`, as lines of a training list."""
    ids = np.flatnonzero(by_url >= 0)
    return float((by_url[ids] == rows_of_ids(ids, by_row)).mean())


def refuse_unless_by_url(
    hard_samples: Path, by_url: np.ndarray, by_row: np.ndarray, similarity: Similarity, agree: float
) -> None:
    """Check that the pairs are related if ids are read by url, and at least as much as if they are read by row.

    Args:
        by_url, by_row: (n,) int64 row of each id in the two readings, -1 for none.
        agree: their `agreement`, for the message.

    Raises:
        HelipError: the ids are of another order, or the pairs are unrelated.
    """
    pairs = _sample(hard_samples)
    found = {}
    for name, row_of_id in (("url", by_url), ("row", by_row)):
        rows = rows_of_ids(pairs, row_of_id)
        rows = rows[(rows >= 0).all(1) & (rows[:, 0] != rows[:, 1])]
        found[name] = kinship(rows[:, 0], rows[:, 1], similarity)
    if found["url"] > SURE and found["url"] >= found["row"]:
        return
    disagree = (
        f"the ids of {hard_samples.name} are in another order than the rows ({agree:.1%} of the ids of the url "
        "index are the number of their row)"
    )
    if found["row"] > SURE:
        raise HelipError(
            f"{disagree}, and they are not the url index's: read by url the listed pairs have less in common than "
            "read by row; say --order row if the training list was written in the order of these shards"
        )
    raise HelipError(
        f"{disagree}, and the listed pairs have no more in common than random ones, whether ids are read by url or by "
        "row: these files do not belong to these shards, or captions cannot tell; give embeddings (--image, --text), "
        "or skip the test with --order url or --order row"
    )


def _sample(hard_samples: Path) -> np.ndarray:
    """(SAMPLE or fewer, 2) ids of targets and their first partners, drawn from the whole file."""
    generator, kept = np.random.default_rng(0), []
    for number, (target, partners) in enumerate(read_hard_samples(hard_samples)):
        first = next((partner for partner in partners if partner != target), None)
        if first is None:
            continue
        if len(kept) < SAMPLE:
            kept.append((target, first))
        elif (place := int(generator.integers(number + 1))) < SAMPLE:
            kept[place] = (target, first)
    return np.array(kept, np.int64).reshape(-1, 2)
