# pyright: strict, reportUnknownMemberType=false
"""The inner loop that all backends share: targets against candidates, block by block, then the exact ranking.

Legend: T targets, S of them at a time, C candidates of a block, K partners.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from helip.mining.bounds import ULP, Rounded, as_targets, padded
from helip.mining.candidates import Candidates
from helip.mining.flat import Block
from helip.mining.fused import can_fuse, fused_candidates, give_up
from helip.mining.rescore import Ranked, rescore
from helip.mining.scan import Room
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, free_memory
from helip.mining.workers import FEEDERS

STEP, LEAST_STEP = 1024, 256  # S
BLOCK = 2048  # C; two score blocks of S x C bfloat16 are 8 MB, within the caches of a core of a server
FIRST = 2  # blocks whose columns make the thresholds
# On a GPU: S and C of a fused pass, and C of the first block, which makes the thresholds by plain products. A pair of
# the first block costs some twenty times as much: with 3 million pairs that is 3 % of the search at 4,096 candidates
# and 20 % at 32,768.
GPU_STEP, GPU_BLOCK, GPU_FIRST = 8192, 32768, 4096
PLAIN_BYTES, FUSED_BYTES = 12, 1 << 16  # peak memory of a pair in plain products, and of a target in a fused pass
# The matrix library compiles a kernel for every new shape, which takes as long as ten small products.
TARGETS, CANDIDATES = 64, 256  # rows are padded to multiples of these
RESCORED = 2048  # targets whose kept candidates are rescored at once
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Shape:
    """Sizes of the units of work.

    Attributes:
        targets: largest S.
        pairs: largest S C in plain products.
        candidates: C.
        first: C of the first block; if it is smaller, the size doubles from block to block up to C.
    """

    targets: int
    pairs: int
    candidates: int
    first: int


def shape_on(device: torch.device) -> Shape:
    """Sizes that fit the caches of a CPU, or half of a GPU's free memory for all of its threads together."""
    if device.type == "cpu":
        return Shape(STEP, STEP * BLOCK, BLOCK, FIRST * BLOCK)
    share = free_memory(device) // (2 * FEEDERS)
    pairs = max(LEAST_STEP * BLOCK, min(GPU_STEP * GPU_BLOCK, share // PLAIN_BYTES))
    return Shape(max(LEAST_STEP, min(GPU_STEP, share // FUSED_BYTES)), pairs, GPU_BLOCK, GPU_FIRST)


def full_sums(device: torch.device) -> None:
    """Make torch sum half-precision products in float32: sums in half precision would break the error bounds."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


class Sweep:
    """Finds the best K candidates of some targets.

    Args:
        pairs: the embeddings.
        targets: (T,) int64 rows.
        own: image and text of the targets.
        settings: rules and depth.
        shape: from `shape_on`.
        single: there is only one block.
        slack: see `Candidates`.
    """

    def __init__(
        self,
        pairs: Pairs,
        targets: np.ndarray,
        own: tuple[Rounded, Rounded],
        settings: SearchSettings,
        shape: Shape,
        single: bool = False,
        slack: int = 0,
    ) -> None:
        self.pairs, self.targets, self.settings, self.shape, self.single = pairs, targets, settings, shape, single
        self.sides = [as_targets(padded(side, TARGETS), v.width) for side, v in zip(own, pairs.modalities, strict=True)]
        device, self.dtype = own[0].values.device, own[0].values.dtype
        full_sums(device)
        self.found = Candidates(targets, pairs, settings, ULP[self.dtype], device, single, slack)
        self._rooms = [Room() for _ in self.sides]

    def ranked(self, blocks: Iterable[Block], all_rows: np.ndarray, tick: Tick) -> Ranked:
        """The best K of the candidates in some blocks.

        Args:
            blocks: the candidates, none of them twice; the nearer the first ones are, the fewer survive later.
            all_rows: (C',) int64 rows of all blocks; a target with too many near-ties is rescored against all of them.
            tick: called with the number of pairs just looked at.
        """
        self._meet_all(blocks, tick)
        candidates, overflowed = self.found.candidates()
        parts = [slice(start, start + RESCORED) for start in range(0, len(self.targets), RESCORED)]
        ranked = Ranked.join([rescore(self.pairs, self.targets[p], candidates[p], self.settings) for p in parts])
        for position in overflowed:
            alone = rescore(self.pairs, self.targets[position, None], all_rows[None, :], self.settings)
            ranked.replace(int(position), alone)
        return ranked

    def _meet_all(self, blocks: Iterable[Block], tick: Tick) -> None:
        seen = 0
        for block in blocks:
            # the first block makes the thresholds: without them all candidates would be kept
            fused = seen > 0 and can_fuse(self.found.device, self.dtype)
            step = self.shape.targets
            if not fused:  # S x C stays within the cache, or the memory of a GPU
                step = max(LEAST_STEP, min(step, self.shape.pairs // len(block.rows)))
            for start in range(0, len(self.targets), step):
                part = slice(start, min(start + step, len(self.targets)))
                self.meet(part, block, fused)
                tick((part.stop - start) * len(block.rows))
            seen += len(block.rows)
            if not self.single:
                self.found.tighten(seen)

    def meet(self, part: slice, block: Block, fused: bool) -> None:
        """Compare S targets with a block; in halves where memory is short."""
        try:
            if not (fused and self.by_kernel(part, block)):
                self.by_products(part, block)
        except torch.OutOfMemoryError:
            middle = (part.start + part.stop) // 2 // TARGETS * TARGETS
            if middle <= part.start:
                raise
            torch.cuda.empty_cache()
            self.shape = replace(self.shape, targets=middle - part.start, pairs=self.shape.pairs // 2)
            self.meet(slice(part.start, middle), block, fused)
            self.meet(slice(middle, part.stop), block, fused)

    def by_kernel(self, part: slice, block: Block) -> bool:
        """Compare by the Triton pass; False where it does not run."""
        try:
            marked = fused_candidates(self.found, part, self.sides, block)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton's compiler and launcher share no base of their errors
            give_up(error)
            return False
        self.found.take(part, block.rows, [gap[part] for _, gap in self.sides], block.worst, marked)
        return True

    def by_products(self, part: slice, block: Block) -> None:
        """Compare by matrix products."""
        padded_part = slice(part.start, -(-part.stop // TARGETS) * TARGETS)
        upper: list[torch.Tensor] = []
        for (own, _), side, room in zip(self.sides, block.sides, self._rooms, strict=True):
            out = room.like(own, (padded_part.stop - padded_part.start, len(side.values)))
            upper.append(torch.mm(own[padded_part], side.values.T, out=out)[: part.stop - part.start])
        gap = [gap[part] for _, gap in self.sides]
        self.found.add(part, block.rows, block.own[part], upper, gap, block.worst)


def cuts(count: int, settings: SearchSettings, width: int, first: int = 0) -> list[slice]:
    """Blocks of `count` candidates, `width` in each; if `first` is given, the sizes double from `first` to `width`."""
    least = -(-4 * (settings.depth + settings.skip_first) // 32) * 32  # blocks begin at whole words of bits
    width, size = max(width, least), max(first or width, least)
    parts: list[slice] = []
    start = 0
    while start < count:
        parts.append(slice(start, min(start + size, count)))
        start, size = start + size, min(width, size if len(parts) == 1 else 2 * size)
    return parts
