# pyright: strict, reportUnknownMemberType=false
"""The inner loop that all backends share: some targets against some candidates, block by block.

Legend: T targets, S of them at a time, C candidates of a block, K partners.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from helip.mining.bounds import Rounded, as_targets, padded, ulp_of
from helip.mining.candidates import Candidates
from helip.mining.fused import can_fuse, fused_candidates, give_up
from helip.mining.rescore import Ranked, rescore
from helip.mining.scan import Room
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, free_memory

STEP, LEAST_STEP = 1024, 256  # S
FEEDERS = 4  # threads that keep a GPU busy while others of them rank what it found
BLOCK = 2048  # C; two score blocks of S x C bfloat16 are 8 MB, within the caches of a core of a server
FIRST = 2  # blocks whose columns make the thresholds
# Of a GPU: S and C of a fused pass, and C of the first block, which makes the thresholds by plain products. That costs
# some twenty times as much a pair: of 3 million pairs 3 % of the whole with 4,096 candidates, 20 % with 32,768.
GPU_STEP, GPU_BLOCK, GPU_FIRST = 8192, 32768, 4096
PLAIN_BYTES, FUSED_BYTES = 12, 1 << 16  # of memory at the peak: a pair of plain products, a target of a fused pass
# The library that multiplies compiles a kernel for every new shape, which takes as long as ten small products.
TARGETS, CANDIDATES = 64, 256  # rows are padded to multiples of these
RESCORED = 2048  # targets whose kept candidates are rescored at once
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Block:
    """Candidates, on the device of the search.

    Attributes:
        rows: (C,) int64.
        sides: image and text, C rows each; zeros may follow, and `rows` of any number.
        own: (T,) int64 place of each target itself among `rows`; outside 0 .. C - 1: not there.
        worst: image and text, largest rounding error.
        valid: (C / 32) int32 bits of candidates that take part; None where the others are not among them.
    """

    rows: torch.Tensor
    sides: tuple[Rounded, Rounded]
    own: torch.Tensor
    worst: list[float]
    valid: torch.Tensor | None = None


@dataclass(frozen=True)
class Shape:
    """How much is looked at together.

    Attributes:
        targets: S at most.
        pairs: S C at most in plain products.
        candidates: C.
        first: C of the first block; if it is smaller, the next ones double up to C.
    """

    targets: int
    pairs: int
    candidates: int
    first: int


def shape_on(device: torch.device) -> Shape:
    """What suits a device: caches of a CPU, the free memory of a GPU, of which its threads take half together."""
    if device.type == "cpu":
        return Shape(STEP, STEP * BLOCK, BLOCK, FIRST * BLOCK)
    share = free_memory(device) // (2 * FEEDERS)
    pairs = max(LEAST_STEP * BLOCK, min(GPU_STEP * GPU_BLOCK, share // PLAIN_BYTES))
    return Shape(max(LEAST_STEP, min(GPU_STEP, share // FUSED_BYTES)), pairs, GPU_BLOCK, GPU_FIRST)


def sweep(
    pairs: Pairs,
    targets: np.ndarray,
    own: tuple[Rounded, Rounded],
    blocks: Iterable[Block],
    settings: SearchSettings,
    tick: Tick,
    shape: Shape,
    single: bool = False,
    slack: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates that may be among the best K of their target.

    Args:
        pairs: the embeddings, for widths and groups.
        targets: (T,) int64 rows.
        own: image and text of the targets.
        blocks: the candidates, none of them twice; the nearer the first ones are, the fewer survive later.
        settings: rules and depth.
        tick: called with the number of pairs just looked at.
        shape: from `shape_on`.
        single: there is only one block.
        slack: see `Candidates`.

    Returns:
        (T, C') int64 rows, -1 padded, and the positions of targets with too many candidates, whose rows are empty.
    """
    work = _Sweep(pairs, targets, own, settings, shape, single, slack)
    for block in blocks:
        # the first block makes the thresholds: without them all candidates would be kept
        fused = work.seen > 0 and can_fuse(work.found.device, work.dtype)
        step = work.shape.targets
        if not fused:  # S x C stays within the cache, or the memory of a GPU
            step = max(LEAST_STEP, min(step, work.shape.pairs // len(block.rows)))
        for start in range(0, len(targets), step):
            part = slice(start, min(start + step, len(targets)))
            work.meet(part, block, fused)
            tick((part.stop - start) * len(block.rows))
        work.seen += len(block.rows)
        if not single:
            work.found.tighten(work.seen)
    return work.found.candidates()


def full_sums(device: torch.device) -> None:
    """Let products of half precision be summed in float32: sums in half precision would break the error bounds."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


class _Sweep:
    """Some targets on their way through the candidates; arguments as of `sweep`."""

    def __init__(
        self,
        pairs: Pairs,
        targets: np.ndarray,
        own: tuple[Rounded, Rounded],
        settings: SearchSettings,
        shape: Shape,
        single: bool,
        slack: int,
    ) -> None:
        self.sides = [as_targets(padded(side, TARGETS), v.width) for side, v in zip(own, pairs.modalities, strict=True)]
        device, self.dtype = own[0].values.device, own[0].values.dtype
        full_sums(device)
        self.found = Candidates(targets, pairs, settings, ulp_of(self.dtype), device, single, slack)
        self.shape, self.seen = shape, 0
        self._rooms = [Room() for _ in self.sides]

    def meet(self, part: slice, block: Block, fused: bool) -> None:
        """Let S targets meet a block; half of them at a time where memory is short."""
        try:
            if not (fused and self._fused(part, block)):
                self._plain(part, block)
        except torch.OutOfMemoryError:
            middle = (part.start + part.stop) // 2 // TARGETS * TARGETS
            if middle <= part.start:
                raise
            torch.cuda.empty_cache()
            self.shape = replace(self.shape, targets=middle - part.start, pairs=self.shape.pairs // 2)
            self.meet(slice(part.start, middle), block, fused)
            self.meet(slice(middle, part.stop), block, fused)

    def _fused(self, part: slice, block: Block) -> bool:
        """By the Triton pass; False where it does not run."""
        gap = [side[1][part] for side in self.sides]
        own, candidates = [side[0][part] for side in self.sides], [side.values for side in block.sides]
        place = block.own[part].int()
        try:
            through = fused_candidates(
                self.found, part, own, candidates, block.rows, place, block.valid, gap, block.worst
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton's compiler and launcher share no base of their errors
            give_up(error)
            return False
        self.found.take(part, block.rows, gap, block.worst, through)
        return True

    def _plain(self, part: slice, block: Block) -> None:
        """By matrix products."""
        gap = [side[1][part] for side in self.sides]
        padded_part = slice(part.start, -(-part.stop // TARGETS) * TARGETS)
        upper: list[torch.Tensor] = []
        for (own, _), side, room in zip(self.sides, block.sides, self._rooms, strict=True):
            out = room.like(own, (padded_part.stop - padded_part.start, len(side.values)))
            upper.append(torch.mm(own[padded_part], side.values.T, out=out)[: part.stop - part.start])
        self.found.add(part, block.rows, block.own[part], upper, gap, block.worst)


def settle(
    pairs: Pairs,
    targets: np.ndarray,
    candidates: np.ndarray,
    overflowed: np.ndarray,
    everyone: np.ndarray,
    settings: SearchSettings,
) -> Ranked:
    """Rank what a sweep let through.

    Args:
        pairs: the embeddings.
        targets: (T,) int64 rows.
        candidates, overflowed: as `sweep` returns them.
        everyone: (C,) int64 rows that the sweep looked at: what targets with too many near-ties are rescored against.
        settings: rules and depth.
    """
    parts = [
        rescore(pairs, targets[start : start + RESCORED], candidates[start : start + RESCORED], settings)
        for start in range(0, len(targets), RESCORED)
    ]
    ranked = Ranked.join(parts)
    for position in overflowed:
        ranked.replace(int(position), rescore(pairs, targets[position, None], everyone[None, :], settings))
    return ranked


def cuts(count: int, settings: SearchSettings, width: int = 0, first: int = 0) -> list[slice]:
    """Blocks of `count` candidates, of `width` each; from `first` on, if given, they double up to it."""
    least = -(-4 * (settings.depth + settings.skip_first) // 32) * 32  # blocks begin at whole words of bits
    width, size = max(width or BLOCK, least), max(first or width or BLOCK, least)
    parts: list[slice] = []
    start = 0
    while start < count:
        parts.append(slice(start, min(start + size, count)))
        start, size = start + size, min(width, size if len(parts) == 1 else 2 * size)
    return parts
