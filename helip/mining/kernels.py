# pyright: basic
"""The fused CUDA pass (Triton): both cosines, the rules and the threshold in one kernel; only survivors reach memory.

A program owns a tile of BM targets by BN candidates. It accumulates image and text products in registers, forms the
upper bound of the score (see bulk), and appends what is not below the target's threshold to that target's list in
memory. The S x C score matrices are never written: TPU-KNN (Chern et al., 2022) shows that this, not arithmetic, keeps
search from peak.

Operations and traffic for S targets, C candidates, D = D_I + D_T padded columns of 2 bytes:
- operations: 2 S C D.
- reads of L2: 2 D (S C / BM + S C / BN) bytes. At BM = BN = 128 that is 64 operations a byte; an H100's L2 gives about
  5.5 TB/s, so 350 TFLOP/s. BM = 128, BN = 256: 85 operations a byte, 470 TFLOP/s.
- reads of memory: 2 D (S + C) bytes while GROUP rows of tiles are walked together and share what L2 holds.
- writes: 12 bytes a survivor, about 75 a target and pass, and one atomic a row of a tile: under 0.1 % of the reads.
- registers: two float32 accumulators of BM x BN, 128 kB at 128 x 128, half of what a multiprocessor has.

A pass that writes both score matrices moves 4 S C bytes more and reads them again: at D = 1,216 that is 8 bytes for
every 2,432 operations, 2.5 TB/s at 750 TFLOP/s, three quarters of the card's bandwidth.

Written without a GPU at hand: correct under TRITON_INTERPRET=1 (tests/mining/test_kernels.py), tile sizes not tuned.
Triton 3.9's interpreter multiplies the bits of bfloat16 as integers, so that the cases run in float16 and float32.

Legend: S targets, C candidates, D_I and D_T padded widths, R room for survivors per target.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from helip.mining.settings import Rules

TILES: dict[str, Any] = {"BM": 128, "BN": 128, "BK": 64, "GROUP": 8, "num_warps": 8}


@triton.jit
def _product(
    a, b, rows, columns, row_ok, column_ok,
    width: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """(BM, BN) float32 products of rows of `a` and of `b`, both row-major with `width` columns."""
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, width, BK):
        k = start + tl.arange(0, BK)
        inside = k < width
        left = tl.load(a + rows[:, None] * width + k[None, :], mask=row_ok[:, None] & inside[None, :], other=0.0)
        right = tl.load(b + columns[None, :] * width + k[:, None], mask=column_ok[None, :] & inside[:, None], other=0.0)
        total = tl.dot(left, right, total, input_precision="ieee")
    return total


@triton.jit
def _survivors(
    own_image, own_text, image, text, threshold, own, counts, out_column, out_image, out_text,
    S, C, low_image, low_text,
    SCORE: tl.constexpr, WIDTH_IMAGE: tl.constexpr, WIDTH_TEXT: tl.constexpr, ROOM: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    # Tiles are numbered so that GROUP rows of them go through the candidates together and share what L2 holds.
    tile, tiles_s, tiles_c = tl.program_id(0), tl.cdiv(S, BM), tl.cdiv(C, BN)
    group = tile // (GROUP * tiles_c)
    tall = tl.minimum(tiles_s - group * GROUP, GROUP)
    inside = tile % (GROUP * tiles_c)
    rows = (group * GROUP + inside % tall) * BM + tl.arange(0, BM)
    columns = (inside // tall) * BN + tl.arange(0, BN)
    row_ok, column_ok = rows < S, columns < C
    rows64, columns64 = rows.to(tl.int64), columns.to(tl.int64)
    x = _product(own_image, image, rows64, columns64, row_ok, column_ok, WIDTH_IMAGE, BM, BN, BK)
    y = _product(own_text, text, rows64, columns64, row_ok, column_ok, WIDTH_TEXT, BM, BN, BK)
    limit = tl.load(threshold + rows, mask=row_ok, other=float("inf"))
    place = tl.load(own + rows, mask=row_ok, other=-1)
    if SCORE == 0:
        score = tl.where((x > low_image) & (y > low_text), x * y, 0.0)
    elif SCORE == 1:
        score = tl.where(x > low_image, x, 0.0)
    else:
        score = tl.where(y > low_text, y, 0.0)
    alive = (score > 0) & (score >= limit[:, None]) & (columns[None, :] != place[:, None])
    alive = alive & row_ok[:, None] & column_ok[None, :]
    # One atomic a row: Triton 3.8 and 3.9 do not compile one on a two-dimensional pointer whose result is used.
    taken = alive.to(tl.int32)
    first = tl.atomic_add(counts + rows, tl.sum(taken, 1), mask=row_ok)
    slot = first[:, None] + tl.cumsum(taken, 1) - taken
    target = rows64[:, None] + tl.zeros((BM, BN), dtype=tl.int64)
    kept = alive & (slot < ROOM)
    at = target * ROOM + slot
    tl.store(out_column + at, columns[None, :] + tl.zeros((BM, BN), dtype=tl.int32), mask=kept)
    tl.store(out_image + at, x, mask=kept)
    tl.store(out_text + at, y, mask=kept)


def fused_survivors(
    own: Sequence[torch.Tensor],
    candidates: Sequence[torch.Tensor],
    threshold: torch.Tensor,
    rules: Rules,
    place: torch.Tensor,
    room: int,
    tiles: dict[str, Any] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Candidates whose upper bound is not below their target's threshold.

    Args:
        own: image (S, D_I) and text (S, D_T) of the targets, from `bulk.as_targets`, contiguous.
        candidates: image (C, D_I) and text (C, D_T), contiguous, of the same dtype.
        threshold: (S,) float32.
        rules: score and minima.
        place: (S,) int32 place of each target itself among the candidates; outside 0 .. C - 1: not there.
        room: survivors that a target may have; the rest is only counted.
        tiles: BM, BN, BK, GROUP; `TILES` if None.

    Returns:
        (F,) int64 target and (F,) int64 column, by target and in no order within; (F,) float32 bounds of image and of
        text; (S,) int32 survivors of each target, above `room` where some were lost.
    """
    kernel: Any = _survivors
    count, width = len(own[0]), len(candidates[0])
    device, sizes = own[0].device, tiles or TILES
    counts = torch.zeros(count, dtype=torch.int32, device=device)
    columns = torch.empty(count * room, dtype=torch.int32, device=device)
    x, y = (torch.empty(count * room, dtype=torch.float32, device=device) for _ in (0, 1))
    grid = (triton.cdiv(count, sizes["BM"]) * triton.cdiv(width, sizes["BN"]),)
    kernel[grid](
        *own, *candidates, threshold, place, counts, columns, x, y,
        count, width, rules.low_image, rules.low_text,
        SCORE=rules.score, WIDTH_IMAGE=own[0].shape[1], WIDTH_TEXT=own[1].shape[1], ROOM=room, **sizes,
    )  # fmt: skip
    filled = counts.clamp(max=room).long()
    target = torch.repeat_interleave(torch.arange(count, device=device), filled)
    first = torch.cumsum(filled, 0) - filled
    at = target * room + torch.arange(len(target), device=device) - first[target]
    return target, columns[at].long(), x[at], y[at], counts
