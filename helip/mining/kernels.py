# pyright: basic, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
"""The fused CUDA pass (Triton): both cosines, the rules and the threshold in one kernel, which writes one bit a pair.

A program of `mark` has a tile of BM targets by BN candidates. It accumulates the image and the text product in
registers, forms the upper bound of the score (see bounds), and writes one bit for each pair: whether it may be among
the best of its target. The S x C score matrices are never written: TPU-KNN (Chern et al., 2022) shows that writing
them, and not arithmetic, keeps a search below peak speed. There are no atomics: `count` adds up the bits of a target,
`list_bits` turns them into columns, and `bounds` multiplies the few pairs that are left again, because their bounds are
needed too.

Operations and traffic of `mark` for S targets, C candidates, D = D_I + D_T columns of 2 bytes:
- operations: 2 S C D.
- reads of L2: 2 D (S C / BM + S C / BN) bytes. At BM = 128, BN = 256 that is 85 operations a byte; an H100's L2 gives
  about 5.5 TB/s, so 470 TFLOP/s.
- reads of memory: 2 D (S + C) bytes while GROUP rows of tiles are walked together and share what L2 holds.
- writes: S C / 8 bytes.
- registers: one float32 accumulator of BM x BN, and the image product as float16, rounded up, where PACK is set.

A pass that writes both score matrices moves 4 S C bytes more and reads them again: at D = 1,152 that is 8 bytes for
every 2,304 operations, 2.6 TB/s at 750 TFLOP/s, three quarters of the card's bandwidth.

The kernels are compiled ahead of time for each card (`python -m benchmarks.gpu compile`) and tested under
TRITON_INTERPRET=1 (tests/mining/test_kernels.py). They were not timed, so tile sizes follow from registers alone.

Legend: S targets, C candidates, D_I and D_T widths, F pairs in a flat list.
"""

import triton
import triton.language as tl


@triton.jit
def _dots(
    a, b, row, column, rows, columns, S, C,
    WIDTH: tl.constexpr, STRIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """(BM, BN) float32 products of rows of `a` and rows of `b` over WIDTH columns, a multiple of BK."""
    total = tl.zeros((BM, BN), dtype=tl.float32)
    if TMA:
        for k in tl.range(0, WIDTH, BK):
            total = tl.dot(a.load([row, k]), b.load([column, k]).T, total, input_precision="ieee")
    else:
        k = tl.arange(0, BK)
        left = a + tl.minimum(rows, S - 1).to(tl.int64)[:, None] * STRIDE + k[None, :]
        right = b + tl.minimum(columns, C - 1).to(tl.int64)[None, :] * STRIDE + k[:, None]
        for _ in tl.range(0, WIDTH, BK, loop_unroll_factor=1):
            total = tl.dot(tl.load(left), tl.load(right), total, input_precision="ieee")
            left += BK
            right += BK
    return total


@triton.jit
def _halved(x, PACK: tl.constexpr):
    """Float16 numbers that are not below positive `x`; PACK 1: two in a register, which the interpreter cannot do."""
    half = (x * (1 + 2.0**-10) + 2.0**-24).to(tl.float16)
    if PACK == 1:
        half = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [half], dtype=tl.float16, is_pure=False, pack=2)
    return half


@triton.jit(do_not_specialize=["S", "C"])
def mark(
    own_image, own_text, image, text, limits, own_groups, groups, out, S, C, low_image, low_text,
    SCORE: tl.constexpr, SIDES: tl.constexpr, CROWD: tl.constexpr, WIDTH_IMAGE: tl.constexpr,
    WIDTH_TEXT: tl.constexpr, STRIDE_IMAGE: tl.constexpr, STRIDE_TEXT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, TMA: tl.constexpr, PACK: tl.constexpr,
):  # fmt: skip
    """Bits (S, C / 32) of the pairs that may be hard pairs, bit n % 32 of word n / 32; bits from C on are undefined.

    `limits` (5, S): threshold of the score, the numbers added to the products of image and of text, and the bounds of
    both above which a pair is surely a near-duplicate. SIDES: 1 image, 2 text, 3 both. CROWD: leave out near-duplicates
    and pairs whose numbers in `own_groups` (2, S) and `groups` (2, C) are equal and not negative.
    """
    # Tiles are numbered so that GROUP rows of tiles go through the candidates together and share what L2 holds.
    tile, tiles_s, tiles_c = tl.program_id(0), tl.cdiv(S, BM), tl.cdiv(C, BN)
    group = tile // (GROUP * tiles_c)
    tall = tl.minimum(tiles_s - group * GROUP, GROUP)
    inside = tile % (GROUP * tiles_c)
    row, column = (group * GROUP + inside % tall) * BM, (inside // tall) * BN
    rows, columns = row + tl.arange(0, BM), column + tl.arange(0, BN)
    ok = rows < S
    if SIDES & 1:
        x = _dots(own_image, image, row, column, rows, columns, S, C, WIDTH_IMAGE, STRIDE_IMAGE, BM, BN, BK, TMA)
        x += tl.load(limits + S + rows, mask=ok, other=0.0)[:, None]
        if PACK:
            x = _halved(x, PACK)
    if SIDES & 2:
        y = _dots(own_text, text, row, column, rows, columns, S, C, WIDTH_TEXT, STRIDE_TEXT, BM, BN, BK, TMA)
        y += tl.load(limits + 2 * S + rows, mask=ok, other=0.0)[:, None]
    limit = tl.load(limits + rows, mask=ok, other=float("inf"))
    if SIDES & 1:
        x = x.to(tl.float32)
    if SCORE == 0:
        alive = (x > low_image) & (y > low_text) & (x * y >= limit[:, None])
    elif SCORE == 1:
        alive = (x > low_image) & (x >= limit[:, None])
    else:
        alive = (y > low_text) & (y >= limit[:, None])
    if CROWD:
        if SIDES & 1:
            alive = alive & (x <= tl.load(limits + 3 * S + rows, mask=ok, other=0.0)[:, None])
        if SIDES & 2:
            alive = alive & (y <= tl.load(limits + 4 * S + rows, mask=ok, other=0.0)[:, None])
        for m in tl.static_range(2):
            own = tl.load(own_groups + m * S + rows, mask=ok, other=-1)
            theirs = tl.load(groups + m * C + columns, mask=columns < C, other=-1)
            alive = alive & ((own[:, None] != theirs[None, :]) | (own < 0)[:, None])
    bits = alive.to(tl.int32) << (tl.arange(0, BN) % 32)[None, :]
    words = tl.sum(tl.reshape(bits, (BM, BN // 32, 32)), 2)
    place = column // 32 + tl.arange(0, BN // 32)
    last = tl.cdiv(C, 32)
    tl.store(
        out + rows.to(tl.int64)[:, None] * last + place[None, :], words, mask=ok[:, None] & (place < last)[None, :]
    )


@triton.jit
def _words(bits, row, own, at, C, ok):
    """Words `at` of rows of bits, without the target itself (column `own`) and bits from C on."""
    last = tl.cdiv(C, 32)
    words = tl.load(bits + row.to(tl.int64) * last + at, mask=ok & (at < last), other=0).to(tl.uint32)
    beyond = tl.minimum(tl.maximum(at * 32 + 32 - C, 0), 31).to(tl.uint32)
    itself = tl.where((own >= 0) & (own // 32 == at), 1, 0).to(tl.uint32) << (own % 32).to(tl.uint32)
    words = words & (4294967295 >> beyond)
    return words ^ (words & itself)


@triton.jit
def _ones(words):
    """Number of bits that are set in each word."""
    words = words - ((words >> 1) & 0x55555555)
    words = (words & 0x33333333) + ((words >> 2) & 0x33333333)
    words = (words + (words >> 4)) & 0x0F0F0F0F
    return ((words + (words >> 8) + (words >> 16) + (words >> 24)) & 0x3F).to(tl.int32)


@triton.jit(do_not_specialize=["S", "C"])
def count(bits, place, counts, S, C, BR: tl.constexpr, BW: tl.constexpr):
    """(S,) number of marked candidates of each target, without itself at `place`."""
    rows = tl.program_id(0) * BR + tl.arange(0, BR)
    ok, total = rows < S, tl.zeros((BR,), dtype=tl.int32)
    own = tl.load(place + rows, mask=ok, other=-1)
    for start in range(0, tl.cdiv(C, 32), BW):
        at = start + tl.arange(0, BW)
        total += tl.sum(_ones(_words(bits, rows[:, None], own[:, None], at[None, :], C, ok[:, None])), 1)
    tl.store(counts + rows, total, mask=ok)


@triton.jit(do_not_specialize=["C"])
def list_bits(bits, place, counts, starts, out_target, out_column, C, BW: tl.constexpr):
    """Targets and columns of the bits, by target and column, from places `starts` (S,) on; one program per target."""
    row = tl.program_id(0)
    own, base, left = tl.load(place + row), tl.load(starts + row), tl.load(counts + row)
    if left > 0:
        for start in range(0, tl.cdiv(C, 32), BW):
            at = start + tl.arange(0, BW)
            words = _words(bits, row, own, at, C, at >= 0)
            ones = _ones(words)
            some = tl.sum(ones, 0)
            if some > 0:
                bit = tl.arange(0, 32)
                here = ((words[:, None] >> bit[None, :].to(tl.uint32)) & 1).to(tl.int32)
                to = base + (tl.cumsum(ones, 0) - ones)[:, None] + tl.cumsum(here, 1) - here
                tl.store(out_target + to, row + tl.zeros((BW, 32), dtype=tl.int32), mask=here != 0)
                tl.store(out_column + to, at[:, None] * 32 + bit[None, :], mask=here != 0)
                base += some


@triton.jit(do_not_specialize=["F"])
def bounds(
    own, side, add, target, column, out, F,
    WIDTH: tl.constexpr, STRIDE: tl.constexpr, BP: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """(F,) products of rows of targets and candidates over WIDTH columns, plus `add` of the target."""
    pair = tl.program_id(0) * BP + tl.arange(0, BP)
    ok, k = pair < F, tl.arange(0, BK)
    row, place = tl.load(target + pair, mask=ok, other=0), tl.load(column + pair, mask=ok, other=0)
    left = own + row.to(tl.int64)[:, None] * STRIDE + k[None, :]
    right = side + place.to(tl.int64)[:, None] * STRIDE + k[None, :]
    total = tl.zeros((BP, BK), dtype=tl.float32)
    for _ in range(0, WIDTH, BK):
        total += tl.load(left).to(tl.float32) * tl.load(right).to(tl.float32)
        left += BK
        right += BK
    tl.store(out + pair, tl.sum(total, 1) + tl.load(add + row, mask=ok, other=0.0), mask=ok)
