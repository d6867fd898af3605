"""Checks an index against the embeddings that it was mined from: the form of all rows, the content of a sample.

The sample is computed again by brute force in float64 from the definition (helip/mining/reference.py), without the code
of the search.

Legend: N rows, K stored partners, T targets of the sample, R rows looked at together.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from helip.artifacts.hard_pairs import HardPairIndex
from helip.mining.reference import lowest_copies, may_pair, pair_score
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, Vectors

BLOCK = 1 << 14  # R
ROUNDING = 1e-6  # largest difference between a stored float32 score and the float64 one
TIE = 1e-9  # tolerance at ties and limits: sums in another order give other last bits


@dataclass
class Sampled:
    """Result for a sample; `recall` is the share of the true hard pairs that the index has."""

    rows: int
    problems: list[str] = field(default_factory=list[str])
    recall: float = 1.0
    error: float = 0.0  # standard error of the recall


def check_form(index: HardPairIndex, usable: np.ndarray) -> list[str]:
    """Sentences about rows of a wrong form, one for each kind; `usable` (N,) are the rows that may take part."""
    first: dict[str, int] = {}
    counts: dict[str, int] = {}
    for start in range(0, len(index), BLOCK):
        part = slice(start, start + BLOCK)
        for kind, wrong in _wrong_forms(index, usable, part).items():
            if wrong.any():
                first.setdefault(kind, start + int(np.flatnonzero(wrong)[0]))
                counts[kind] = counts.get(kind, 0) + int(wrong.sum())
    return [f"{counts[kind]:,} rows {kind}, the first is row {row}" for kind, row in first.items()]


def _wrong_forms(index: HardPairIndex, usable: np.ndarray, part: slice) -> dict[str, Any]:
    """Kind of wrong form -> (R,) bool."""
    rows, scores = np.asarray(index.rows[part]).astype(np.int64), np.asarray(index.scores[part])
    first, count = int(part.start), len(index)
    own = np.arange(first, first + len(rows))[:, None]
    live, inside = rows >= 0, (rows >= -1) & (rows < count)
    ordered = np.sort(np.where(live, rows, -1 - np.arange(int(rows.shape[1]))), axis=1)
    positive = np.isfinite(scores) & (scores > 0)
    return {
        f"have partners outside of 0 to {count - 1}": ~inside.all(axis=1),
        "have a partner after the end of their list": (live[:, 1:] & ~live[:, :-1]).any(axis=1),
        "are their own partner": (rows == own).any(axis=1),
        "have the same partner twice": (np.diff(ordered, axis=1) == 0).any(axis=1),
        "have partners although they are not usable": live.any(axis=1) & ~usable[part],
        "have a partner that is not usable": (live & inside & ~usable[np.clip(rows, 0, count - 1)]).any(axis=1),
        "have scores that are not positive, or some where there is no partner": (positive != live).any(axis=1),
        "have scores that rise": (np.diff(np.nan_to_num(scores), axis=1) > 0).any(axis=1),
    }


def check_sample(index: HardPairIndex, pairs: Pairs, targets: np.ndarray) -> Sampled:
    """Recompute the hard pairs of `targets` (T,) and compare rows and scores.

    Args:
        index: an index without problems of `check_form`; its meta names the rules.
        pairs: the embeddings, valid rows and groups that it was mined from.
        targets: (T,) rows.
    """
    settings = SearchSettings(**index.meta["settings"])
    exact = index.meta.get("search", {}).get("backend", "exact") == "exact"
    targets = targets[pairs.valid[targets]]
    found = np.asarray(index.rows[targets]).astype(np.int64)  # (T, K)
    live, result = found >= 0, Sampled(len(targets))
    x, y = (_cosines_of(v, targets, found) for v in pairs.modalities)
    value = np.where(live, pair_score(x, y, settings.score), 0.0)
    stored = {"scores": value, "scores_image": x, "scores_text": y}
    for name, wanted in stored.items():
        wrong = live & ~(np.abs(np.asarray(getattr(index, name)[targets]) - wanted) <= ROUNDING)
        result.problems += _named(wrong, targets, found, f"{name} are not those of the embeddings")
    lowest = None if pairs.pair_group is None else lowest_copies(pairs.pair_group, pairs.valid)
    limits = {"lows": settings.lows, "highs": settings.highs}
    allowed = partial(may_pair, **limits, valid=pairs.valid, groups=pairs.groups, lowest=lowest)
    kept = allowed(x, y, targets, np.maximum(found, 0), TIE) & (pair_score(x, y, settings.score) > -TIE)
    result.problems += _named(live & ~kept, targets, found, "a partner breaks a rule of the index")
    missing = _missing(pairs, allowed, settings.score, targets, found, value)
    if exact:
        result.problems += _unskipped(missing, targets, live, value, settings.skip_first)
    recall = np.array([_recall(value[t][live[t]], found.shape[1], missing[t][1]) for t in range(len(targets))])
    if len(recall) and not settings.skip_first:
        result.recall, result.error = float(recall.mean()), float(recall.std() / np.sqrt(len(recall)))
    return result


def _named(wrong: np.ndarray, targets: np.ndarray, found: np.ndarray, what: str) -> list[str]:
    if not wrong.any():
        return []
    t, k = np.argwhere(wrong)[0]
    return [
        f"{what}: {int(wrong.any(axis=1).sum())} of {len(targets)} rows, such as row {targets[t]} with {found[t, k]}"
    ]


def _cosines_of(vectors: Vectors, targets: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(T, K) float64 cosines of targets with their stored partners."""
    result = np.empty(found.shape)
    for t, row in enumerate(targets):
        others = np.maximum(found[t], 0)
        products = np.asarray(vectors.array[others], np.float64) @ np.asarray(vectors.array[row], np.float64)
        result[t] = products * vectors.scale[others] * vectors.scale[row]
    return np.clip(result, -1, 1)


def _missing(
    pairs: Pairs,
    allowed: Callable[..., np.ndarray],
    by: str,
    targets: np.ndarray,
    found: np.ndarray,
    value: np.ndarray,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each target the rows that beat its last partner and are not in its list, and their scores.

    `allowed` is `may_pair` with the rules, `by` the ranking score.
    """
    last = np.where(found[:, -1] >= 0, value[:, -1], 0.0)[:, None]
    rows: list[list[np.ndarray]] = [[np.empty(0, np.int64)] for _ in targets]
    scores: list[list[np.ndarray]] = [[np.empty(0)] for _ in targets]
    for start, x, y in _blocks(pairs, targets):
        others = np.arange(start, start + int(x.shape[1]))[None]
        score = pair_score(x, y, by)
        better = (score > last + TIE) & allowed(x, y, targets, others, -TIE)
        t, k = np.nonzero((found >= start) & (found < start + x.shape[1]))
        better[t, found[t, k] - start] = False
        for t in np.flatnonzero(better.any(axis=1)):
            rows[t].append(start + np.flatnonzero(better[t]))
            scores[t].append(score[t][better[t]])
    return [(np.concatenate(r), np.concatenate(s)) for r, s in zip(rows, scores, strict=True)]


def _blocks(pairs: Pairs, targets: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First row of each block, and its image and text cosines (T, R) in float64."""
    own = [np.asarray(v.array[targets], np.float64) * v.scale[targets][:, None] for v in pairs.modalities]
    for start in range(0, len(pairs), BLOCK):
        part = slice(start, start + BLOCK)
        x, y = (
            np.clip(a @ (np.asarray(v.array[part], np.float64) * v.scale[part][:, None]).T, -1, 1)
            for a, v in zip(own, pairs.modalities, strict=True)
        )
        yield start, x, y


def _unskipped(
    missing: list[tuple[np.ndarray, np.ndarray]], targets: np.ndarray, live: np.ndarray, value: np.ndarray, skip: int
) -> list[str]:
    """A sentence about rows that an exact index lacks, besides the `skip` hardest ones that it leaves out."""
    lacking: list[tuple[Any, Any, Any]] = []
    for t, (rows, scores) in enumerate(missing):
        first = value[t, 0] if live[t, 0] else 0.0
        if len(rows) > skip or (len(rows) and scores.min() < first - TIE):
            lacking.append((targets[t], rows[np.argmax(scores)], scores.max()))
    if not lacking:
        return []
    row, other, score = lacking[0]
    return [
        f"harder pairs are missing: {len(lacking)} of {len(targets)} rows, such as row {row}, {other} ({score:.6f})"
    ]


def _recall(found: np.ndarray, depth: int, missing: np.ndarray) -> float:
    """Share of the `depth` best scores of both lists that are in `found`."""
    both = np.concatenate([found, missing])
    order = np.argsort(-both, kind="stable")[:depth]
    return float((order < len(found)).mean()) if len(both) else 1.0
