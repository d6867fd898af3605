"""What a user must see after mining: how hard the pairs are, and what the rules cost.

Legend: N rows, K stored partners of each.
"""

from typing import Any

import numpy as np

from helip.artifacts.hard_pairs import HardPairIndex
from helip.mining.rescore import FILTERS, failures, unfiltered
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs

QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
ENOUGH = 2_000_000  # scores that quartiles are taken over; of larger indices every n-th row
SAMPLE = (256, 2048)  # targets and candidates of the pairs that filter shares are counted on


def describe(index: HardPairIndex, removed: dict[str, int], redone: int) -> dict[str, Any]:
    """Statistics of a finished index.

    Args:
        index: its arrays.
        removed: by filter, candidates that it took out of the first K places.
        redone: rows that the bulk pass could not settle.

    Returns:
        rows, rows_short (fewer than K partners), rows_empty, partners, quartiles (minimum, quartiles and maximum of
        each stored score), removed_from_first, redone.
    """
    step = max(1, index.rows.size // ENOUGH)
    live = np.asarray(index.rows[::step]) >= 0
    counts = np.zeros(index.depth + 1, np.int64)
    for start in range(0, len(index), 1 << 18):
        counts += np.bincount((index.rows[start : start + (1 << 18)] >= 0).sum(axis=1), minlength=index.depth + 1)
    quartiles = {}
    for name in ("scores", "scores_image", "scores_text"):
        values = np.asarray(getattr(index, name)[::step])[live]
        quartiles[name] = [round(float(q), 6) for q in np.quantile(values, QUARTILES)] if values.size else []
    return {
        "rows": len(index),
        "rows_short": int(counts[:-1].sum()),
        "rows_empty": int(counts[0]),
        "partners": int((counts * np.arange(len(counts))).sum()),
        "quartiles": quartiles,
        "removed_from_first": removed,
        "redone": redone,
    }


def filter_shares(pairs: Pairs, settings: SearchSettings) -> dict[str, float]:
    """Share of all pairs of positive unfiltered score that each rule removes, from a sample of pairs.

    Returns:
        For each of FILTERS the share from 0 to 1, each pair counted for the first that it fails, and `sampled_pairs`.
    """
    valid = np.random.default_rng(settings.seed).permutation(np.flatnonzero(pairs.valid))
    targets, others = np.sort(valid[: SAMPLE[0]]), np.sort(valid[-SAMPLE[1] :])
    similar = [v.unit(targets) @ v.unit(others).T for v in pairs.modalities]
    alive = (others != targets[:, None]) & (unfiltered(similar[0], similar[1], settings.score) > 0)
    row, column = np.nonzero(alive)
    code = failures(pairs, targets[row], others[column], [values[alive] for values in similar], settings)
    broken = np.bincount(code[code >= 0], minlength=len(FILTERS))
    shares = {name: float(count / max(len(code), 1)) for name, count in zip(FILTERS, broken, strict=True)}
    return {**shares, "sampled_pairs": len(code)}
