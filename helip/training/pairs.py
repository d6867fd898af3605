"""What each pair of the global batch is to each pair of this rank: itself, hard pair, duplicate, normal negative.

Everything has a static shape (no `nonzero`), so that a step on a GPU never waits for the device, and the largest
tensors are boolean (B, M).

Legend: B pairs of this rank, M pairs of the global batch (rank r holds columns r * B ...), k mined rows per target,
C identity columns.
"""

from dataclasses import dataclass

import torch

from helip.errors import HelipError
from helip.training.gather import gather_rows


@dataclass(frozen=True)
class Pairs:
    """The roles of columns for the rows of this rank."""

    own: torch.Tensor  # (B,) int64, the column of the row's own pair
    is_target: torch.Tensor  # (B,) bool
    hard: torch.Tensor  # (B,) bool, this pair is a hard pair of row `owner`, and not its known duplicate
    owner: torch.Tensor  # (B,) int64, row of the target; 0 where `hard` is False
    normal: torch.Tensor  # (B, M) bool, N_i: the normal negatives of a target; all False for other rows
    duplicate: torch.Tensor | None  # (B, M) bool, known duplicates other than the pair itself; None: no masking
    targets: torch.Tensor  # () int64, targets in the global batch, at least 1


def describe_pairs(
    target: torch.Tensor,
    identity: torch.Tensor | None,
    mined: torch.Tensor | None,
    mask_duplicates: bool,
    rank: int = 0,
    world_size: int = 1,
) -> Pairs:
    """Work out the roles from the batch layout.

    A hard pair that is a known duplicate of its target (same row, image or caption) is no hard *negative*: it leaves
    H_i as well as N_i, and a target that keeps no other hard pair contributes 0 to the margin.

    Args:
        target: (B,) int64: own position (a target), its target's position (a hard pair), -1 (filler).
        identity: (B, C) int64, row in column 0, then digests; two pairs equal in any column are known duplicates.
        mined: (B, k) int64 rows of a target's top k, padded with -1; needs `identity`.
        mask_duplicates: whether known duplicates leave the negatives.
        rank: position of this process among `world_size` ones, all with the same B.
        world_size: number of processes.

    Raises:
        HelipError: if the shapes do not agree, or `mined` comes without `identity`.
    """
    _check_shapes(target, identity, mined)
    count, device = target.shape[0], target.device
    local = torch.arange(count, device=device)
    own = local + rank * count  # (B,)
    is_target = target == local
    everyone = torch.cat([is_target.long()[:, None], *([] if identity is None else [identity])], dim=1)  # (B, 1 + C)
    everyone = gather_rows(everyone) if world_size > 1 else everyone  # (M, 1 + C)

    owner = target.clamp(min=0)
    partner = (target >= 0) & ~is_target & is_target[owner]
    owner = owner * partner
    duplicate = None
    normal = is_target[:, None].repeat(1, everyone.shape[0])  # (B, M)
    if identity is not None and mask_duplicates:
        duplicate = known_duplicates(identity, everyone[:, 1:])
        duplicate[local, own] = False
        normal &= ~duplicate
    if identity is not None and mined is not None:
        normal &= ~mined_members(mined, everyone[:, 1])
    normal[local, own] = False
    normal[owner, own] = normal[owner, own] & ~partner  # own differs in every row: no entry is written twice
    hard = partner if duplicate is None else partner & ~duplicate[owner, own]
    return Pairs(own, is_target, hard, owner * hard, normal, duplicate, everyone[:, 0].sum().clamp(min=1))


def known_duplicates(identity: torch.Tensor, everyone: torch.Tensor) -> torch.Tensor:
    """(B, C) and (M, C) int64 -> (B, M) bool: equal in at least one column. A pair is its own duplicate here."""
    duplicate = identity[:, None, 0] == everyone[None, :, 0]
    for column in range(1, identity.shape[1]):  # one column at a time: no (B, M, C) tensor
        duplicate |= identity[:, None, column] == everyone[None, :, column]
    return duplicate


def mined_members(mined: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Which columns of the global batch are among each row's mined rows.

    The search runs over the batch's rows (M log M once, B * k look-ups), so that memory is O(B * (M + k)) and never
    O(B * M * k).

    Args:
        mined: (B, k) int64, -1 = padding, any order.
        rows: (M,) int64 >= 0, the row of each column; rows may repeat.

    Returns:
        (B, M) bool.
    """
    rows = rows.contiguous()
    ordered = rows.sort().values
    slot_of_column = torch.searchsorted(ordered, rows)  # (M,), equal rows share their first slot
    slot = torch.searchsorted(ordered, mined)  # (B, k), M where mined is above all rows
    found = ordered[slot.clamp(max=len(rows) - 1)] == mined
    present = torch.zeros(mined.shape[0], len(rows) + 1, dtype=torch.bool, device=rows.device)
    present.scatter_(1, torch.where(found, slot, len(rows)), True)  # what is not in the batch goes to the spare slot
    return present[:, slot_of_column]


def _check_shapes(target: torch.Tensor, identity: torch.Tensor | None, mined: torch.Tensor | None) -> None:
    if target.ndim != 1 or target.dtype != torch.int64:
        raise HelipError(f"target is {tuple(target.shape)} {target.dtype}: give the loss one int64 position per pair")
    for name, tensor in (("identity", identity), ("mined", mined)):
        if tensor is not None and (tensor.ndim != 2 or len(tensor) != len(target) or tensor.dtype != torch.int64):
            raise HelipError(
                f"{name} is {tuple(tensor.shape)} {tensor.dtype} for a batch of {len(target)} pairs:"
                " give the loss one int64 line per pair"
            )
    if mined is not None and identity is None:
        raise HelipError("mined rows were given without identity: pass identity, whose first column is the row")
