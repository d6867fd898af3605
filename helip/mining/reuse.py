"""Applies stricter rules to an existing index; only rows whose stored lists become too short are searched again.

A stored list is the head of a row's ranking. Without the pairs that a stricter rule forbids it is the head of the
stricter ranking. So a row is searched again only if its stored list was full and fewer than K pairs are left. A looser
rule would admit pairs that were never stored, so it is refused.

Legend: N rows, K stored partners of each, R rows looked at together.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from helip.artifacts.arrays import new_array
from helip.artifacts.atomic import atomic_folder, digest
from helip.artifacts.hard_pairs import ARRAYS, HardPairIndex, write_meta
from helip.errors import HelipError
from helip.mining.exact import ExactSearch
from helip.mining.progress import search_progress
from helip.mining.rescore import cosines
from helip.mining.settings import SearchSettings
from helip.mining.statistics import describe
from helip.mining.vectors import Pairs

BLOCK = 1 << 16  # R
CLOSE = 1e-6  # a stored float32 similarity this close to a limit is computed again in float64, which decides


def reuse(
    index: HardPairIndex,
    pairs: Pairs,
    folder: Path,
    settings: SearchSettings,
    *,
    meta: dict[str, Any] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> HardPairIndex:
    """Write the index that `mine` would give under stricter rules.

    Args:
        index: of the same embeddings and valid rows, by the exact or the approximate backend.
        pairs: the embeddings, with the rows and groups that take part.
        folder: of the new index.
        settings: rules at least as strict as those of `index`, and a depth of at most its own.
        meta: stored in the new index.
        device: for the search of short rows.
        progress: show a bar on stderr during that search.

    Returns:
        The new index. Its statistics give the pairs that each rule removed from the stored lists
        (`removed_from_stored`) and the number of rows that were searched again (`rows_searched`).

    Raises:
        HelipError: a rule is looser than the index's, with the reason, or the index is of other rows.
    """
    if len(index) != len(pairs):
        raise HelipError(f"the index to reuse has {len(index)} rows, the embeddings {len(pairs)}: mine again.")
    if refusal := looser_than(index, pairs, settings):
        raise HelipError(f"reuse: {refusal}: mine again.")
    removed: dict[str, int] = dict.fromkeys(("group_image", "group_text", "near_duplicate", "min_similarity"), 0)
    removed |= {} if pairs.copies is None else {"distinct": 0}
    with atomic_folder(Path(folder)) as temporary:
        shape = (len(pairs), settings.depth)
        arrays: dict[str, np.ndarray] = {n: new_array(temporary / f"{n}.npy", d, shape) for n, d in ARRAYS.items()}
        short = [
            _filter(index, pairs, settings, slice(start, start + BLOCK), arrays, removed)
            for start in range(0, len(pairs), BLOCK)
        ]
        rows = np.concatenate(short)
        _search(pairs, rows, settings, arrays, device, progress)
        made = HardPairIndex(**arrays, meta={})
        statistics = describe(made, {}, 0) | {"removed_from_stored": removed, "rows_searched": len(rows)}
        own = {"settings": settings.identity(), "hash": digest(settings.identity()), "search": index.meta.get("search")}
        own["groups"] = pairs.group_names
        write_meta(temporary, {**own, **(meta or {}), "statistics": statistics}, len(made), settings.depth)
    return HardPairIndex.load(folder)


def looser_than(index: HardPairIndex, pairs: Pairs, settings: SearchSettings) -> str | None:
    """Why `reuse` refuses an index for `settings`; None if it does not."""
    old = index.meta["settings"]
    if index.meta.get("search", {}).get("backend") == "pool":
        return "the index is of search.backend=pool, so its lists are not the best of all rows"
    if lost := set(index.meta.get("groups", [])) - set(pairs.group_names):
        if "pair_group" in lost:
            return "the index has no copies of partners (helip.distinct=true), but these settings allow them"
        return f"the index excludes pairs with the same {lost.pop()}, but these settings allow them"
    if old["score"] != settings.score:
        return f"the index ranks by {old['score']}, not by {settings.score}"
    if settings.depth > index.depth:
        return f"the index stores {index.depth} partners per row, fewer than search.depth={settings.depth}"
    highs, lows = np.broadcast_to(old["near_duplicate"], 2), np.broadcast_to(old["min_similarity"], 2)
    for m, name in enumerate(("image", "text")):
        if settings.highs[m] > highs[m]:
            return f"near_duplicate={settings.highs[m]} for {name} is looser than the index's {highs[m]}"
        if settings.score in ("joint", name) and settings.lows[m] < lows[m]:
            return f"min_similarity={settings.lows[m]} for {name} is looser than the index's {lows[m]}"
    if skipped := old.get("skip_first", 0):
        return f"the index leaves out the first pairs of each row (helip.skip_first={skipped})"
    return None


def _filter(
    index: HardPairIndex,
    pairs: Pairs,
    settings: SearchSettings,
    part: slice,
    arrays: dict[str, np.ndarray],
    removed: dict[str, int],
) -> np.ndarray:
    """Write what is left of some stored lists; returns the rows that must be searched again."""
    rows = np.asarray(index.rows[part])
    first = int(part.start)
    live = rows >= 0
    full = live.all(axis=1) & (rows.shape[1] < int(pairs.valid.sum()) - 1)
    targets = np.arange(first, first + len(rows))
    keep = live.copy()
    for name, broken in _broken(index, pairs, settings, part, rows, targets).items():
        removed[name] += int((broken & keep).sum())
        keep &= ~broken
    order = np.argsort(~keep, axis=1, kind="stable")[:, settings.skip_first :][:, : settings.depth]
    kept = np.take_along_axis(keep, order, axis=1)
    for name, array in arrays.items():
        values = np.take_along_axis(np.asarray(getattr(index, name)[part]), order, axis=1)
        array[part] = -1 if name == "rows" else 0
        array[part, : order.shape[1]] = np.where(kept, values, -1 if name == "rows" else 0)
    return targets[full & (kept.sum(axis=1) < settings.depth)]


def _broken(
    index: HardPairIndex, pairs: Pairs, settings: SearchSettings, part: slice, rows: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Rule -> (R, K) bool: the stored partners that it forbids."""
    left = np.broadcast_to(targets[:, None], rows.shape)
    broken = {
        name: (group[rows] == group[left]) & (group[rows] >= 0)
        for name, group in zip(("group_image", "group_text"), pairs.groups, strict=True)
        if group is not None
    }
    if pairs.copies is not None:
        broken["distinct"] = (rows >= 0) & ~pairs.copies.stands(targets, rows)
    near, low = np.zeros(rows.shape, bool), np.zeros(rows.shape, bool)
    for m, stored in enumerate((index.scores_image, index.scores_text)):
        values = np.asarray(stored[part]).astype(np.float64)
        doubt = (np.abs(values - settings.highs[m]) < CLOSE) | (np.abs(values - settings.lows[m]) < CLOSE)
        doubt &= rows >= 0
        values[doubt] = cosines(pairs.modalities[m], left[doubt], rows[doubt].astype(np.int64))
        near |= values > settings.highs[m]
        low |= values < settings.lows[m]
    return {**broken, "near_duplicate": near, "min_similarity": low}


def _search(
    pairs: Pairs, rows: np.ndarray, settings: SearchSettings, arrays: dict[str, np.ndarray], device: str, progress: bool
) -> None:
    if not len(rows):
        return
    search = ExactSearch(pairs, replace(settings, backend="exact"), device=device)
    with search_progress("searching short rows", len(rows) * len(pairs), pairs, progress) as tick:
        unit = settings.unit(device)
        for start in range(0, len(rows), unit):
            some = rows[start : start + unit]
            ranked = search.search_rows(some, tick)
            for name, array in arrays.items():
                array[some] = getattr(ranked, name)
