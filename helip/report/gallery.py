"""Selects the pairs of a gallery: the hardest, those that may be false negatives, and the hubs.

A gallery is plain JSON beside the index (captions, scores, thumbnails), so that reports need no shards.

Legend: N rows, K pairs kept per row.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report.captions import readable
from helip.report.counts import has_scores, in_degree, slices
from helip.report.lines import Line, line_of, scores_of, spread_targets
from helip.report.page import data_uri

FORMAT = 1
POOL = 1000  # suspects whose captions are read
TOP = 6  # hardest targets that are shown before the spread from hard to easy
WORDS = 2000  # characters of a caption whose words are compared
Caption = Callable[[int], str]


@dataclass(frozen=True)
class Section:
    """Lines, and the sentences that define their selection and order."""

    key: str
    title: str
    about: str
    lines: list[Line]


def sections(
    index: HardPairIndex, limits: tuple[float, float], caption: Caption, count: int = 20, pairs: int = 6
) -> list[Section]:
    """The three sections of a gallery; for pairs without scores a sample and the hubs.

    Args:
        index: (N, K) the pairs that training draws from.
        limits: near_duplicate of (image, text).
        caption: row -> text.
        count: lines of each section.
        pairs: partners of each line.
    """
    if not has_scores(index):
        return [sample(index, count, pairs), hubs(index, count, pairs)]
    return [
        hardest(index, count, pairs),
        suspects(index, limits, caption, count, pairs),
        hubs(index, count, pairs),
    ]


def hardest(index: HardPairIndex, count: int, pairs: int) -> Section:
    """The hardest targets, then one from each equal slice of all targets, by the score of the first pair."""
    first = np.where(np.asarray(index.rows[:, 0]) >= 0, np.asarray(index.scores[:, 0]), -np.inf)
    order = np.argsort(-first, kind="stable")[: int(np.isfinite(first).sum())]
    rank = np.empty(len(first), np.int64)
    rank[order] = np.arange(len(order))
    top: list[int] = []
    for row in order[: 4 * TOP].tolist():  # two targets that are each other's first pair are shown once
        if len(top) < min(TOP, count) and not any(index.rows[other, 0] == row for other in top):
            top.append(row)
    rest = [row for row in spread_targets(index, max(1, count - len(top))).tolist() if row not in top]
    places = range(min(pairs, index.depth))
    chosen = [*top, *rest][:count]
    lines = [line_of(index, row, places, f"rank {rank[row] + 1:,} of {len(order):,}") for row in chosen]
    about = (
        f"Targets by the score of their first pair: the {len(top)} hardest, then one drawn from each of "
        f"{max(0, count - len(top))} equal slices from the hardest to the easiest."
    )
    return Section("hardness", "By hardness", about, lines)


def sample(index: HardPairIndex, count: int, pairs: int) -> Section:
    """Targets evenly over the rows, with their first pairs."""
    live = np.flatnonzero(np.asarray(index.rows[:, 0]) >= 0)
    chosen = live[np.linspace(0, len(live) - 1, min(count, len(live))).astype(int)] if len(live) else live
    lines = [line_of(index, row, range(min(pairs, index.depth))) for row in chosen.tolist()]
    return Section("sample", "A sample", f"{len(lines)} targets evenly over the rows; the pairs have no scores.", lines)


def suspects(index: HardPairIndex, limits: tuple[float, float], caption: Caption, count: int, pairs: int) -> Section:
    """Pairs that may show the same thing, so that training on them would push a positive pair apart.

    A pair's distance is the larger of its two distances to the near-duplicate limits: it is small where both
    similarities are just below them. The candidates are the POOL pairs of the smallest distance, and as many of the
    highest text similarity. Pairs whose captions use the same words come first, then the order is by rising distance.
    """
    row, place, distance = _candidates(index, limits)
    words = cache(lambda row: word_set(caption(row)))

    def same(a: int, b: int) -> bool:
        return bool(words(a)) and words(a) == words(b)

    partner = np.asarray(index.rows)[row, place] if len(row) else np.zeros(0, np.int64)
    equal = np.array([same(int(a), int(b)) for a, b in zip(row, partner, strict=True)], bool)
    lines: list[Line] = []
    shown: set[int] = set()
    for n in np.lexsort((row, distance, ~equal)):
        target, other = int(row[n]), int(partner[n])
        if target in shown or other in shown:
            continue
        shown |= {target, other}
        lines.append(_suspect(index, limits, target, int(place[n]), pairs, same))
        if len(lines) == count:
            break
    about = (
        "Pairs that mining can hardly tell from copies, and that may be false negatives. Order: first pairs whose "
        "captions use the same words (case, order and punctuation aside), then by the larger of the two distances to "
        f"the near-duplicate limits (image {limits[0]:g}, text {limits[1]:g}), smallest first. Looked at: "
        f"{len(row):,} pairs, the nearest to both limits and the nearest in text; "
        f"{int(equal.sum()):,} of them have the same words. Each row is shown once as a suspect."
    )
    return Section("suspicion", "Suspected false negatives", about, lines)


def _suspect(
    index: HardPairIndex,
    limits: tuple[float, float],
    target: int,
    place: int,
    pairs: int,
    same: Callable[[int, int], bool],
) -> Line:
    """The line of a suspect pair, followed by the target's other pairs by their distance."""
    distance = _distances(index.scores_image[target], index.scores_text[target], limits)
    others = [int(k) for k in np.argsort(distance, kind="stable") if index.rows[target, k] >= 0 and k != place]
    places = [place, *others][:pairs]
    marks = tuple("same words" if same(target, int(index.rows[target, k])) else "" for k in places)
    return line_of(index, target, places, f"distance to the limits {distance[place]:.3f}", marks)


def _candidates(
    index: HardPairIndex, limits: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Row, place and distance of the pairs that are nearest to both limits or nearest in text, POOL of each."""
    found: dict[tuple[int, int], float] = {}
    for by_text in (False, True):
        best: tuple[NDArray, ...] = (np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        for part in slices(len(index)):
            distance = _distances(index.scores_image[part], index.scores_text[part], limits)
            row, place = np.nonzero(np.asarray(index.rows[part]) >= 0)
            key = -np.asarray(index.scores_text[part])[row, place] if by_text else distance[row, place]
            new = key, row + part.start, place, distance[row, place]
            best = tuple(np.concatenate(both) for both in zip(best, new, strict=True))
            order = np.argsort(best[0], kind="stable")[:POOL]
            best = tuple(values[order] for values in best)
        found |= {(int(r), int(p)): float(d) for _, r, p, d in zip(*best, strict=True)}
    keys = np.array(list(found), np.int64).reshape(-1, 2)
    return keys[:, 0], keys[:, 1], np.array(list(found.values()), np.float32)


def _distances(image: NDArray, text: NDArray, limits: tuple[float, float]) -> NDArray[np.float32]:
    return np.maximum(limits[0] - np.asarray(image), limits[1] - np.asarray(text))


def word_set(caption: str) -> frozenset[str]:
    """The words of a caption without case, order and punctuation."""
    return frozenset(re.findall(r"\w+", caption[:WORDS].lower()))


def hubs(index: HardPairIndex, count: int, pairs: int) -> Section:
    """The rows that are chosen most often, with the targets that chose them, hardest first."""
    degree = in_degree(index.rows)
    order = np.argsort(-degree, kind="stable")[:count]
    order = order[degree[order] > 0]
    choosers: dict[int, list[tuple[float, int, int]]] = {int(hub): [] for hub in order}
    scored = has_scores(index)
    for part in slices(len(index)):
        rows = np.asarray(index.rows[part])
        for near, place in np.argwhere(np.isin(rows, order) & (rows >= 0)).tolist():
            row = near + part.start
            score = float(index.scores[row, place]) if scored else 0.0
            choosers[int(rows[near, place])].append((score, row, place))
    lines = []
    for hub, chosen in choosers.items():
        best = sorted(chosen, key=lambda choice: (-choice[0], choice[1]))[:pairs]
        scores = [scores_of(index, row, place) for _, row, place in best]
        share = degree[hub] / max(1, int((np.asarray(index.rows[:, 0]) >= 0).sum()))
        lines.append(Line(hub, [row for _, row, _ in best], scores, f"chosen {degree[hub]:,} times ({share:.1%})"))
    about = (
        f"Rows by their in-degree: how often a row is among the first {index.depth} hard pairs of another. Beside each "
        f"hub stand the targets that chose it{', hardest first' if scored else ''}; the share is that of all targets."
    )
    return Section("hubs", "By how often a row is chosen (hubs)", about, lines)


def gallery(parts: list[Section], image: Callable[[int], Image.Image | None], caption: Caption) -> dict[str, Any]:
    """The sections with a shortened caption and a thumbnail of each row; JSON-like."""
    rows = {row for part in parts for line in part.lines for row in (line.target, *line.partners)}
    return {
        "format": FORMAT,
        "sections": [asdict(part) for part in parts],
        "captions": {str(row): readable(caption(row)) for row in sorted(rows)},
        "thumbs": {str(row): data_uri(picture) if (picture := image(row)) else None for row in sorted(rows)},
    }


def read_gallery(path: Path) -> dict[str, Any] | None:
    """A gallery from a file; None if there is no file. Raises HelipError if it is no gallery of this version."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] == FORMAT and {"sections", "captions", "thumbs"} <= found.keys():
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise HelipError(f"{path} is no gallery that this version can draw: run `python mine.py` with the same settings")
