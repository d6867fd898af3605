"""Bounds with the largest rounding errors: every entry of every row is rounded by the most, in the same direction.

Random rows are far from the worst case, so a bound that is too tight would pass on them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from helip.mining.bounds import ULP, RowSource, as_targets
from helip.mining.candidates import Candidates
from helip.mining.reference import hard_pairs
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, open_pairs

ROWS = 96
DEPTH = 12


def widths(dtype: torch.dtype, step: int = 1) -> tuple[int, int]:
    """Widths from 40 to 250 at which 1 / sqrt(width) is rounded up, and down, by the largest relative error."""
    every = torch.arange(40, 250, step)
    exact = every.double().rsqrt()
    moved = exact.to(dtype).double() / exact - 1
    return int(every[moved.argmax()]), int(every[moved.argmin()])


EXACT = 64  # 1 / 8 is not rounded


def signs(width: int, copies: int, flips: tuple[int, int], seed: int) -> np.ndarray:
    """(ROWS, width) of +-1: `copies` of one row, and rows with `flips` other signs; cosines are 1 - 2 flips / width."""
    rng = np.random.default_rng(seed)
    rows = np.tile(rng.choice([-1.0, 1.0], width), (ROWS, 1))
    for row in rows[copies:]:
        row[rng.choice(width, rng.integers(*flips), replace=False)] *= -1
    return rows


def cases() -> list[Any]:
    """Both directions of rounding, and one modality alone; two copies, or more than the depth, among other rows."""
    return [
        (dtype, image, text, score, copies)
        for dtype in (torch.bfloat16, torch.float16, torch.float32)
        for up, down in (widths(dtype),)
        for image, text in ((up, up), (down, down), (up, EXACT), (EXACT, down))
        for score, copies in (("joint", 2), ("joint", 2 * DEPTH), ("image", 2 * DEPTH), ("text", 2))
    ]


def rules_of(width: int, flips: tuple[int, int]) -> list[dict[str, Any]]:
    near, far = 1 - 2 * (flips[0] + 2) / width, 1 - 2 * (flips[1] - 5) / width
    return [
        {"near_duplicate": 1.0},
        *({"near_duplicate": 1 - step} for step in (1e-3, 1e-5, 1e-7)),  # copies are out, closest to the limit
        *({"near_duplicate": near + step} for step in (1e-3, 1e-9, -1e-9, -1e-3)),
        *({"near_duplicate": 1.0, "min_similarity": far + step} for step in (1e-3, 1e-9, -1e-9, -1e-3)),
        *({"near_duplicate": near + step, "min_similarity": far - step} for step in (1e-9, -1e-9)),
    ]


def blocks(pairs: Pairs, dtype: torch.dtype, parts: list[slice]) -> Iterator[tuple]:
    """The arguments that a sweep passes to `Candidates.add`, for these candidates."""
    source = RowSource(pairs, dtype, 1 << 30, torch.device("cpu"))
    both = source.rows(slice(None))
    sides = [as_targets(side, v.width) for side, v in zip(both, pairs.modalities, strict=True)]
    for part in parts:
        some = source.rows(part)
        upper = [own @ side.values.T for (own, _), side in zip(sides, some, strict=True)]
        yield part, upper, [gap for _, gap in sides], [float(side.error.max()) for side in some]


@pytest.mark.parametrize(("dtype", "image", "text", "score", "copies"), cases(), ids=str)
def test_no_bound_is_on_the_wrong_side(dtype, image, text, score, copies) -> None:
    flips = (1, 13) if copies == 2 else (8, 17)
    vectors = signs(image, copies, flips, 0), signs(text, copies, flips, 1)
    everyone = np.arange(ROWS)
    sharing = np.where(everyone % 3 == 0, 7, -1)  # a third of all rows, copies among them, have one caption
    for rules in rules_of(image if score == "image" else text, flips):
        for group in (None, sharing) if rules == {"near_duplicate": 1.0} else (None,):
            pairs = open_pairs(*vectors, text_group=group)
            check(pairs, SearchSettings(depth=DEPTH, score=score, **rules), dtype, vectors, group, rules)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rounded", [0, 1])
def test_the_error_of_the_less_similar_side_counts_in_full(dtype, rounded) -> None:
    """A cosine of 0.1 in one modality, which is rounded, and of 1 in the other, which is not."""
    width = widths(dtype, 20)[0]
    far, same = signs(width, 1, (width * 9 // 20, width * 9 // 20 + 1), 0), signs(EXACT, ROWS, (0, 1), 1)
    vectors = (far, same) if rounded == 0 else (same, far)
    settings = SearchSettings(depth=DEPTH, near_duplicate=1.0)
    check(open_pairs(*vectors), settings, dtype, vectors, None, {"near_duplicate": 1.0})


def check(
    pairs: Pairs,
    settings: SearchSettings,
    dtype: torch.dtype,
    vectors: tuple[np.ndarray, np.ndarray],
    group: np.ndarray | None,
    rules: dict[str, Any],
) -> None:
    truth = hard_pairs(*vectors, ROWS, score=settings.score, text_group=group, **rules)
    score = np.zeros((ROWS, ROWS))  # of the pairs that the rules allow
    place = truth[0] >= 0
    score[np.nonzero(place)[0], truth[0][place]] = truth[1][place]
    for cut, single in ((ROWS, False), (ROWS // 2, False), (ROWS, True)):  # the first block gives thresholds
        found = Candidates(np.arange(ROWS), pairs, settings, ULP[dtype], torch.device("cpu"), single)
        for part, upper, gap, worst in blocks(pairs, dtype, [slice(0, cut), slice(cut, ROWS)][: ROWS // cut]):
            own = torch.arange(ROWS) - part.start
            found.add(slice(0, ROWS), torch.arange(part.start, part.stop), own, upper, gap, worst)
            seen = np.sort(score[:, : part.stop], axis=1)[:, -DEPTH]
            assert (found.threshold.double().numpy() <= seen + 1e-12).all(), "a threshold above the K-th best score"
            if single:
                continue  # no bounds are kept
            flat = found.parts[-1]
            true = score[flat.target.numpy(), flat.column.numpy()]
            assert (flat.lower.double().numpy() <= true + 1e-12).all(), (
                "a lower bound above a score, or of a forbidden pair"
            )
            assert (flat.upper.double().numpy() >= true).all(), "an upper bound below a score"
            found.tighten(float(part.stop))
            assert (found.threshold.double().numpy() <= seen + 1e-12).all(), "a tightened threshold above the K-th best"
        rows, redone = found.candidates()
        assert len(redone) == 0
        for target in range(ROWS):
            best = score[target] >= max(np.sort(score[target])[-DEPTH], 1e-12)
            missing = set(np.flatnonzero(best)) - set(rows[target].tolist())
            assert not missing, f"target {target} lost {sorted(missing)}"
