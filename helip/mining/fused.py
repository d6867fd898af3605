# pyright: basic
"""The Triton kernels as a search calls them: the form for each card, the launches, and the fallback where they fail.

Legend: S targets, C candidates, F pairs in a flat list.
"""

import importlib.util
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch

from helip.mining.bounds import looped_width
from helip.mining.candidates import Candidates
from helip.mining.flat import Block, Limits, Marked

LEAST_CAPABILITY = (8, 0)  # older cards have no tensor-core form that Triton compiles, and less shared memory
COUNTED, LISTED = {"BR": 16, "BW": 128}, {"BW": 128}  # block sizes of `count` and `list_bits`: targets and words
PAIRS = {"BP": 32, "BK": 64}  # block sizes of `bounds`: pairs and columns


@dataclass(frozen=True)
class Form:
    """One form of `kernels.mark`; those of `form_of` compile without a spill (python -m benchmarks.gpu compile).

    Attributes:
        tiles: its tile constants.
        launch: num_warps and num_stages.
    """

    tiles: dict[str, Any]
    launch: dict[str, int]


def form_of(capability: tuple[int, int], sides: int, crowd: bool) -> Form:
    """The form for a card: loads by TMA where the card has it, and the largest tile whose sums stay in registers.

    Args:
        capability: such as (9, 0).
        sides: 1 image, 2 text, 3 both.
        crowd: whether copies are left out, which takes more registers.
    """
    pack = int(sides == 3)
    if capability[0] in (9, 10):
        wide = (128 if capability[0] == 9 else 64) if crowd else 256
        tiles = {"BM": 128, "BN": wide, "BK": 64, "GROUP": 8, "TMA": 1, "PACK": pack}
        return Form(tiles, {"num_warps": 8, "num_stages": 3})
    tiles = {"BM": 128, "BN": 128, "BK": 32, "GROUP": 8, "TMA": 0, "PACK": pack}
    return Form(tiles, {"num_warps": 8, "num_stages": 4})


def device_form(device: torch.device, sides: int, crowd: bool) -> Form:
    """The form for a device."""
    return form_of(torch.cuda.get_device_capability(device), sides, crowd)


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the Triton pass can run; without it a GPU multiplies block by block as the CPU does."""
    if device.type != "cuda" or dtype == torch.float32 or broken or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


broken: list[str] = []  # why the Triton pass failed in this process; it is not tried again
_ready: set[Any] = set()  # forms that were launched once, so that four threads do not compile the same one
_compiling = Lock()


def give_up(error: Exception) -> None:
    """Record that the kernels do not run here, and warn at the first time in a process."""
    first, _, _ = str(error).strip().partition("\n")
    if not broken:
        warnings.warn(
            f"the Triton kernel of the exact search does not run here ({type(error).__name__}: {first}): the search"
            " goes on with plain matrix products, which are slower and give the same hard pairs",
            stacklevel=2,
        )
    broken.append(first)


def fused_candidates(
    found: Candidates, part: slice, sides: list[tuple[torch.Tensor, torch.Tensor]], block: Block
) -> Marked:
    """The candidates of a block that S targets keep; waits for the device once.

    A target with more bits than `found.room` has met a crowd, or ties. The block is then marked again without the pairs
    that the rules surely forbid. A target that still has too many is listed in `over`.

    Args:
        found: thresholds and rules.
        part: positions of the S targets among the T.
        sides: image and text of the T targets, from `bounds.as_targets`.
        block: the candidates.
    """
    own, gap = ([side[n][part] for side in sides] for n in (0, 1))
    candidates, place, width = [side.values for side in block.sides], block.own[part].int(), len(block.rows)
    total = most = 0
    limits, words, counts = found.limits(part, gap, block.worst), torch.empty(0), torch.empty(0)
    for again in (False, True):
        groups = None if limits.groups is None else found.groups_of(block.rows)
        words = mark(own, candidates, limits, groups, found.widths)
        words = words if block.valid is None else words.bitwise_and_(block.valid)
        counts = counted(words, place, width)
        total, most = torch.stack([counts.sum(), counts.max().long()]).tolist()
        if again or most <= found.room:
            break
        found.expect_crowds(part, counts > found.room)
        limits = found.limits(part, gap, block.worst)
    over = None
    if most > found.room:
        over = counts > found.room
        counts = counts.masked_fill(over, 0)
        total = int(counts.sum())
    target, column = listed(words, place, counts, total, width)
    image, text = (
        bounded(a, b, limits.values[1 + m], target, column, d)
        for m, (a, b, d) in enumerate(zip(own, candidates, found.widths, strict=True))
    )
    return Marked(target, column, image, text, over)


def mark(
    own: list[torch.Tensor],
    candidates: list[torch.Tensor],
    limits: Limits,
    groups: torch.Tensor | None,
    widths: tuple[int, int],
    form: Form | None = None,
) -> torch.Tensor:
    """(S, C / 32) int32 bits of the pairs that may be hard pairs, see `kernels.mark`.

    Args:
        own: image (S, D_I) and text (S, D_T) of the targets, from `bounds.as_targets`, rows contiguous.
        candidates: image (C, D_I) and text (C, D_T), of the same dtype.
        limits: from `Candidates.limits`.
        groups: (2, C) int32 group numbers of the candidates; None if `limits.groups` is None.
        widths: d_I and d_T.
        form: None: the form for the device.
    """
    device, (count, width) = own[0].device, (len(own[0]), len(candidates[0]))
    crowd = limits.groups is not None
    sides = 3 if crowd or limits.rules.score == 0 else limits.rules.score
    form = form or device_form(device, sides, crowd)
    tiles = form.tiles
    words = torch.empty((count, -(-width // 32)), dtype=torch.int32, device=device)
    arguments: list[Any] = [*own, *candidates]
    if tiles["TMA"]:
        from triton.tools.tensor_descriptor import TensorDescriptor

        blocks = [tiles["BM"], tiles["BM"], tiles["BN"], tiles["BN"]]
        arguments = [TensorDescriptor.from_tensor(t, [b, tiles["BK"]]) for t, b in zip(arguments, blocks, strict=True)]
    arguments += [limits.values, *((limits.groups, groups) if crowd else (words, words)), words, count, width]
    arguments += [limits.rules.low_image, limits.rules.low_text]
    constants = {
        "SCORE": limits.rules.score, "SIDES": sides, "CROWD": int(crowd),
        "WIDTH_IMAGE": looped_width(widths[0]), "WIDTH_TEXT": looped_width(widths[1]),
        "STRIDE_IMAGE": own[0].stride(0), "STRIDE_TEXT": own[1].stride(0), **tiles,
    }  # fmt: skip
    programs = -(-count // tiles["BM"]) * -(-width // tiles["BN"])
    key = (device.index, own[0].dtype, *constants.values())
    with nullcontext() if key in _ready else _compiling:
        _launch("mark", programs, device, *arguments, **constants, **form.launch)
        _ready.add(key)
    return words


def counted(words: torch.Tensor, place: torch.Tensor, width: int) -> torch.Tensor:
    """(S,) int32 number of bits of each target, without itself at `place` (S,) int32 and bits from C = `width` on."""
    counts = torch.empty(len(words), dtype=torch.int32, device=words.device)
    programs = -(-len(words) // COUNTED["BR"])
    _launch("count", programs, words.device, words, place, counts, len(words), width, **COUNTED)
    return counts


def listed(
    words: torch.Tensor, place: torch.Tensor, counts: torch.Tensor, total: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(F,) int32 target and column of the bits that `counts` counts; a target whose count is set to 0 is left out."""
    target, column = (torch.empty(total, dtype=torch.int32, device=words.device) for _ in (0, 1))
    starts = (torch.cumsum(counts, 0) - counts).int()
    _launch("list_bits", len(words), words.device, words, place, counts, starts, target, column, width, **LISTED)
    return target, column


def bounded(
    own: torch.Tensor, side: torch.Tensor, add: torch.Tensor, target: torch.Tensor, column: torch.Tensor, width: int
) -> torch.Tensor:
    """(F,) float32 upper bounds of the cosines of pairs; `add` (S,) is added to the products."""
    count = len(target)
    out = torch.empty(count, dtype=torch.float32, device=own.device)
    if count:
        programs, constants = -(-count // PAIRS["BP"]), {"WIDTH": looped_width(width), "STRIDE": own.stride(0), **PAIRS}
        _launch("bounds", programs, own.device, own, side, add, target, column, out, count, **constants)
    return out


def _launch(name: str, programs: int, device: torch.device, *arguments: Any, **constants: Any) -> None:
    """Run a kernel. Triton launches on the current device of the thread, which is 0 in a new thread."""
    from helip.mining import kernels  # here, because Triton need not be installed

    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        getattr(kernels, name)[(programs,)](*arguments, **constants)
