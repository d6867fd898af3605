# pyright: strict, reportUnknownMemberType=false
"""The inner loop that all backends share: some targets against some candidates, block by block.

Legend: T targets, S of them at a time, C candidates of a block, K partners.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from helip.mining.bulk import Rounded, as_targets, padded, ulp_of
from helip.mining.rescore import Ranked, rescore
from helip.mining.settings import SearchSettings
from helip.mining.survivors import Survivors
from helip.mining.vectors import Pairs

STEP, LEAST_STEP = 1024, 256  # S
FEEDERS = 4  # threads that keep a GPU busy while others of them rank what it found
BLOCK = 2048  # C; two score blocks of S x C bfloat16 are 8 MB, within the caches of a core of a server
# The library that multiplies compiles a kernel for every new shape, which takes as long as ten small products.
TARGETS, CANDIDATES = 64, 256  # rows are padded to multiples of these
RESCORED = 1024  # targets whose survivors are rescored at once
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Block:
    """Candidates.

    Attributes:
        rows: (C,) int64.
        sides: image and text, C rows each; zeros may follow, and `rows` of any number.
        own: (T,) int64 place of each target itself among `rows`; outside 0 .. C - 1: not there.
    """

    rows: np.ndarray
    sides: tuple[Rounded, Rounded]
    own: np.ndarray


def sweep(
    pairs: Pairs,
    targets: np.ndarray,
    own: tuple[Rounded, Rounded],
    blocks: Iterable[Block],
    settings: SearchSettings,
    tick: Tick,
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
        single: there is only one block.
        slack: see `Survivors`.

    Returns:
        (T, C') int64 rows, -1 padded, and the positions of targets with too many survivors, whose rows are empty.
    """
    sides = [as_targets(padded(side, TARGETS), v.width) for side, v in zip(own, pairs.modalities, strict=True)]
    device, dtype = own[0].values.device, own[0].values.dtype
    found = Survivors(targets, pairs, settings, ulp_of(dtype), device, single, slack)
    fused = can_fuse(device, dtype)
    seen, (most, width) = 0, geometry(device)
    for block in blocks:
        step = max(LEAST_STEP, min(most, most * width // len(block.rows)))  # S x C stays within the cache
        rows, at = torch.from_numpy(block.rows).to(device), torch.from_numpy(block.own).to(device)
        worst = [float(side.error.max()) for side in block.sides]
        for start in range(0, len(targets), step):
            part = slice(start, min(start + step, len(targets)))
            own_part = [side[0][start : start + step] for side in sides]
            gap = [side[1][part] for side in sides]
            # the first block makes the thresholds, without which all would survive
            through = _fused(found, part, own_part, block, at[part]) if fused and seen else None
            if through is not None:
                found.take(part, rows, gap, worst, *through)
            else:
                fused = fused and not seen
                upper = [o @ c.values.T for o, c in zip(own_part, block.sides, strict=True)]
                upper = [values[: part.stop - start] for values in upper]
                found.add(part, rows, at[part], upper, gap, worst)
            tick((part.stop - start) * len(rows))
        seen += len(rows)
        if not single:
            found.tighten(seen)
    return found.candidates()


def geometry(device: torch.device) -> tuple[int, int]:
    """S and C of a block on a device."""
    return (STEP, BLOCK) if device.type == "cpu" else (8192, 32768)


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the Triton pass can run; without Triton a GPU multiplies block by block as the CPU does."""
    ready = device.type == "cuda" and dtype != torch.float32 and importlib.util.find_spec("triton") is not None
    return ready and not _broken


_broken: list[str] = []  # why the Triton pass failed in this process; it is not tried again


def _fused(
    found: Survivors, part: slice, own: list[torch.Tensor], block: Block, at: torch.Tensor
) -> tuple[torch.Tensor, ...] | None:
    """What the Triton pass lets through; None where it fails, which is said once in a process."""
    targets = [values[: part.stop - part.start] for values in own]
    candidates = [side.values for side in block.sides]
    try:
        from helip.mining.kernels import fused_survivors  # where there is Triton

        return fused_survivors(targets, candidates, *found.limits(part), at.int(), found.room)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton's compiler and launcher share no base of their errors
        first, _, _ = str(error).strip().partition("\n")
        if not _broken:
            warnings.warn(
                f"the Triton kernel of the exact search does not run here ({type(error).__name__}: {first}): the search"
                " goes on with plain matrix products, which are slower and give the same hard pairs",
                stacklevel=2,
            )
        _broken.append(first)
        return None


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


def cuts(count: int, settings: SearchSettings, width: int = 0) -> list[slice]:
    """Blocks of `count` candidates."""
    width = max(width or BLOCK, 4 * (settings.depth + settings.skip_first))
    return [slice(start, min(start + width, count)) for start in range(0, count, width)]
