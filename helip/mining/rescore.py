# pyright: strict, reportUnknownMemberType=false
"""The one place where thresholds, order and ties are decided.

All backends pass their candidates to this module, whatever precision they found them with. It computes float64 cosines
of the embeddings as given (see stable_dot), applies the rules to these values, and sorts by falling float64 score, then
by row. The stored scores are float32: partners whose float32 scores are equal keep their float64 order.

Legend: B targets, C candidates of each (-1 padded), P (target, candidate) pairs in a flat list, K partners kept.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from helip.artifacts.hard_pairs import ARRAYS
from helip.mining.quick import near_edges, quick_cosines, take_columns, tolerance, unstable
from helip.mining.settings import SearchSettings
from helip.mining.stable_dot import dots
from helip.mining.vectors import Pairs, Vectors

CHUNK = 256  # pairs whose products are held at once: 0.7 MB of sums at width 1280, which stay in the L2 cache
DEVICE_CHUNK = 1 << 15  # likewise on a GPU: 300 MB in float64
FILTERS = ("min_similarity", "group_image", "group_text", "near_duplicate_image", "near_duplicate_text")
COUNTED = (*FILTERS[1:], "skip_first")  # not min_similarity: a search never sees most pairs below it (see statistics)


@dataclass
class Ranked:
    """The best K candidates of B targets.

    Attributes:
        rows: (B, K) int32, -1 padded.
        scores, scores_image, scores_text: (B, K) float32, 0 at padding.
        removed: for each of `COUNTED`, how many candidates it removed that would have ranked above the last one kept;
            a candidate counts for the first of `FILTERS` that it fails. Where pairs have copies also `distinct`: the
            copies of partners that were left out.
        redone: targets with too many near-ties, which were rescored against all candidates.
    """

    rows: np.ndarray
    scores: np.ndarray
    scores_image: np.ndarray
    scores_text: np.ndarray
    removed: dict[str, int] = field(default_factory=dict[str, int])
    redone: int = 0

    @classmethod
    def join(cls, parts: "list[Ranked]") -> "Ranked":
        """Concatenated."""
        arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS)
        removed = {name: sum(part.removed[name] for part in parts) for name in parts[0].removed}
        return cls(*arrays, removed=removed, redone=sum(part.redone for part in parts))

    def replace(self, position: int, other: "Ranked") -> None:
        """Replace one target's results by those of `other`, which has one target."""
        for name in ARRAYS:
            getattr(self, name)[position] = getattr(other, name)[0]
        for name, count in other.removed.items():
            self.removed[name] += count
        self.redone += 1


def cosines(vectors: Vectors, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(P,) float64 cosines of the row pairs left[p], right[p], clipped to [-1, 1]; these decide rules and order."""
    result = np.empty(len(left))
    chunk = CHUNK if vectors.resident is None else DEVICE_CHUNK
    for start in range(0, len(left), chunk):
        part = slice(start, start + chunk)
        result[part] = dots(_rows(vectors, left[part]), _rows(vectors, right[part])).cpu().numpy()
        result[part] *= vectors.scale[left[part]] * vectors.scale[right[part]]
    return np.clip(result, -1.0, 1.0, out=result)


def _rows(vectors: Vectors, rows: np.ndarray) -> torch.Tensor:
    if vectors.resident is not None:
        return vectors.resident[torch.from_numpy(rows).to(vectors.resident.device)]
    return torch.from_numpy(np.take(vectors.array, rows, axis=0))


def rescore(pairs: Pairs, targets: np.ndarray, candidates: np.ndarray, settings: SearchSettings) -> Ranked:
    """Rank proposed candidates exactly.

    Args:
        pairs: the embeddings.
        targets: (B,) int64 rows.
        candidates: (B, C) int64 rows in any order, -1 for none; no row twice per target, the target itself is allowed.
        settings: rules and depth.

    Returns:
        The K = settings.depth best of each target after `skip_first`.
    """
    ranked = _ranked(pairs, targets, candidates, settings)
    if pairs.copies is not None:
        ranked.removed["distinct"] = pairs.copies.left_out(targets, ranked.rows)
    return ranked


def _alive(pairs: Pairs, targets: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, C) candidates in rising order, and which of them may be partners, similarity and groups aside."""
    if pairs.copies is not None:  # a search leaves out the target's second copy, which is a candidate for it alone
        candidates = np.concatenate([candidates, pairs.copies.second[targets][:, None]], axis=1)
    candidates = np.sort(candidates, axis=1)  # a stable sort by score then leaves ties in the order of rows
    alive = (candidates >= 0) & (candidates != targets[:, None]) & pairs.valid[targets][:, None]
    if pairs.copies is None:
        return candidates, alive & pairs.valid[candidates]
    alive[:, 1:] &= candidates[:, 1:] != candidates[:, :-1]  # once, if the search proposed it too
    return candidates, alive & pairs.copies.stands(targets, candidates)


def _ranked(pairs: Pairs, targets: np.ndarray, candidates: np.ndarray, settings: SearchSettings) -> Ranked:
    candidates, alive = _alive(pairs, targets, candidates)
    at = np.flatnonzero(alive)
    where, right = at // candidates.shape[1], candidates.ravel()[at]
    left, head = targets[where], settings.depth + settings.skip_first + 1
    if pairs.image.resident is not None:
        scored = _Scored(pairs, left, right, [cosines(v, left, right) for v in pairs.modalities], settings)
        order = _order(scored.table(scored.score, at, candidates.shape), head)
        return _select(candidates, at, scored, order, settings)
    scored = _Scored(pairs, left, right, quick_cosines(pairs, targets, where, right), settings)
    close = tolerance(max(vectors.width for vectors in pairs.modalities))
    doubt = near_edges(scored.similar, settings, close)
    tables = [
        scored.table(v, at, candidates.shape) for v in (np.where(doubt, scored.raw, scored.score), *scored.similar)
    ]
    order = _order(tables[0], head, "quicksort")  # four times as fast; rows with ties are sorted again below
    doubt |= unstable(tables, order, head, close).ravel()[at]
    if doubt.any():
        for values, vectors in zip(scored.similar, pairs.modalities, strict=True):
            values[doubt] = cosines(vectors, left[doubt], right[doubt])
        scored = _Scored(pairs, left, right, scored.similar, settings)
        changed = np.unique(where[doubt])
        order[changed] = _order(scored.table(scored.score, at, candidates.shape)[changed], head)
    return _select(candidates, at, scored, order, settings)


class _Scored:
    """The scores of P pairs in a flat list.

    Attributes:
        similar: image and text, (P,) float64 cosines.
        raw: (P,) float64 unfiltered score.
        failed: (P,) int8, see `failures`.
        score: (P,) float64, 0 where the pair breaks a rule.
    """

    def __init__(
        self, pairs: Pairs, left: np.ndarray, right: np.ndarray, similar: list[np.ndarray], settings: SearchSettings
    ) -> None:
        self.similar, self.raw = similar, unfiltered(similar[0], similar[1], settings.score)
        self.failed = failures(pairs, left, right, similar, settings)
        self.score = np.where(self.failed < 0, self.raw, 0.0)

    @staticmethod
    def table(values: np.ndarray, at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """`values` (P,) as a (B, C) table, 0 where there is no pair."""
        table = np.zeros(shape, values.dtype)
        table.ravel()[at] = values
        return table


def _order(score: np.ndarray, head: int, kind: Literal["stable", "quicksort"] = "stable") -> np.ndarray:
    """(B, min(C, head)) columns by falling score; "stable" keeps equal scores from left to right."""
    return np.argsort(-score, axis=1, kind=kind)[:, :head]


def unfiltered(image: np.ndarray, text: np.ndarray, arm: str) -> np.ndarray:
    """Ranking score before the rules; 0 where a similarity that enters it is not positive."""
    if arm == "joint":
        return np.where((image > 0) & (text > 0), image * text, 0.0)
    return np.maximum(image if arm == "image" else text, 0.0)


def failures(
    pairs: Pairs, left: np.ndarray, right: np.ndarray, similar: list[np.ndarray], settings: SearchSettings
) -> np.ndarray:
    """(P,) int8 position in FILTERS of the first rule that a pair (left[p], right[p]) breaks, -1 if none."""
    failed = np.full(len(left), -1, np.int8)
    rules = [(0, similar[m] < settings.lows[m]) for m in (0, 1)]
    for modality, group in enumerate(pairs.groups):
        if group is not None:
            rules.append((1 + modality, (group[right] == group[left]) & (group[right] >= 0)))
    rules += [(3 + m, similar[m] > settings.highs[m]) for m in (0, 1)]
    for code, broken in reversed(rules):
        failed[broken] = code
    return failed


def _select(
    candidates: np.ndarray, at: np.ndarray, scored: _Scored, order: np.ndarray, settings: SearchSettings
) -> Ranked:
    skip, depth = settings.skip_first, settings.depth
    order = order[:, skip : skip + depth]
    score = scored.table(scored.score, at, candidates.shape)
    best = take_columns(score, order)
    kept = best > 0
    last = best[:, -1] if best.shape[1] == depth else np.zeros(len(best))
    broken = np.flatnonzero(scored.failed > 0)
    broken = broken[scored.raw[broken] > last[at[broken] // candidates.shape[1]]]
    counts = np.bincount(scored.failed[broken], minlength=len(FILTERS))
    removed = {name: int(counts[FILTERS.index(name)]) for name in COUNTED[:-1]}
    removed[COUNTED[-1]] = int(np.minimum((score > 0).sum(axis=1), skip).sum()) if skip else 0

    def stored(values: np.ndarray, dtype: type[np.generic], padding: float) -> np.ndarray:
        full = np.full((len(candidates), depth), padding, dtype)
        full[:, : order.shape[1]] = np.where(kept, take_columns(values, order), padding)
        return full

    image, text = (scored.table(v, at, candidates.shape) for v in scored.similar)
    return Ranked(
        stored(candidates, np.int32, -1),
        stored(score, np.float32, 0.0),
        stored(image, np.float32, 0.0),
        stored(text, np.float32, 0.0),
        removed,
    )
