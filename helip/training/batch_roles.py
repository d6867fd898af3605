"""What each pair of the global batch is to each pair of this rank: itself, hard pair, duplicate, normal negative.

Everything has a static shape (no `nonzero`), so that a step on a GPU never waits for the device. The largest tensors
are boolean (R, M), for a block of R rows at a time: what a batch needs once is laid out once.

Legend: B pairs of this rank, R of them in a block, M pairs of the global batch (rank r holds columns r * B ...),
k mined rows per target, C identity columns.
"""

from dataclasses import dataclass

import torch

from helip.errors import HelipError
from helip.training.gather import gather_rows


@dataclass(frozen=True)
class Pairs:
    """The roles of columns for a block of this rank's rows."""

    own: torch.Tensor  # (R,) int64, the column of the row's own pair
    is_target: torch.Tensor  # (R,) bool
    column: torch.Tensor  # (B,) int64, the column of each pair of this rank
    hard: torch.Tensor  # (B,) bool, this pair is a hard pair of row `owner` of the block, and not its known duplicate
    owner: torch.Tensor  # (B,) int64, row of the target in the block; 0 where `hard` is False
    normal: torch.Tensor  # (R, M) bool, N_i: the normal negatives of a target; all False for other rows
    duplicate: torch.Tensor | None  # (R, M) bool, known duplicates other than the pair itself; None: no masking
    targets: torch.Tensor  # () int64, targets in the global batch, at least 1


@dataclass(frozen=True)
class Layout:
    """A batch whose roles can be worked out for any block of this rank's rows."""

    target: torch.Tensor  # (B,) int64
    identity: torch.Tensor | None  # (B, C) int64
    mined: torch.Tensor | None  # (B, k) int64
    mask_duplicates: bool
    first: int  # the column of this rank's first pair
    columns: int  # M
    everyone: torch.Tensor  # (M, C) int64, identity of the global batch; C is 0 without one
    targets: torch.Tensor  # () int64, as in Pairs

    def rows(self, start: int, stop: int) -> Pairs:
        """The roles of all columns for the rows `start` to `stop` of this rank."""
        local = torch.arange(len(self.target), device=self.target.device)
        column = local + self.first  # (B,)
        own, row = column[start:stop], local[: stop - start]
        is_target = self.target == local
        owner = self.target.clamp(min=0)
        partner = (self.target >= 0) & ~is_target & is_target[owner] & (owner >= start) & (owner < stop)
        owner = (owner - start) * partner
        duplicate = self.duplicates(own)
        normal = is_target[start:stop, None].repeat(1, self.columns)  # (R, M)
        if duplicate is not None:
            normal &= ~duplicate
        if self.mined is not None:
            normal &= ~mined_members(self.mined[start:stop], self.everyone[:, 0])
        normal[row, own] = False
        normal[owner, column] = normal[owner, column] & ~partner  # column differs: no entry is written twice
        hard = partner if duplicate is None else partner & ~duplicate[owner, column]
        return Pairs(own, is_target[start:stop], column, hard, owner * hard, normal, duplicate, self.targets)

    def duplicates(self, columns: torch.Tensor) -> torch.Tensor | None:
        """Known duplicates, itself left out, of each of these columns of the global batch: (R,) int64 -> (R, M)."""
        if self.identity is None or not self.mask_duplicates:
            return None
        duplicate = known_duplicates(self.everyone[columns], self.everyone)
        return duplicate.scatter_(1, columns[:, None], False)


def lay_out(
    target: torch.Tensor,
    identity: torch.Tensor | None,
    mined: torch.Tensor | None,
    mask_duplicates: bool,
    rank: int = 0,
    world_size: int = 1,
) -> Layout:
    """Gather what the roles depend on, once a batch.

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
    count = target.shape[0]
    is_target = target == torch.arange(count, device=target.device)
    everyone = torch.cat([is_target.long()[:, None], *([] if identity is None else [identity])], dim=1)  # (B, 1 + C)
    everyone = gather_rows(everyone) if world_size > 1 else everyone  # (M, 1 + C)
    targets = everyone[:, 0].sum().clamp(min=1)
    return Layout(
        target, identity, mined, mask_duplicates, rank * count, len(everyone), everyone[:, 1:].contiguous(), targets
    )


def describe_pairs(
    target: torch.Tensor,
    identity: torch.Tensor | None,
    mined: torch.Tensor | None,
    mask_duplicates: bool,
    rank: int = 0,
    world_size: int = 1,
) -> Pairs:
    """Work out the roles of a whole batch from its layout; arguments and errors as `lay_out`.

    A hard pair that is a known duplicate of its target (same row, image or caption) is no hard *negative*: it leaves
    H_i as well as N_i, and a target that keeps no other hard pair contributes 0 to the margin.
    """
    return lay_out(target, identity, mined, mask_duplicates, rank, world_size).rows(0, target.shape[0])


def known_duplicates(identity: torch.Tensor, everyone: torch.Tensor) -> torch.Tensor:
    """(R, C) and (M, C) int64 -> (R, M) bool: equal in at least one column. A pair is its own duplicate here."""
    duplicate = identity[:, None, 0] == everyone[None, :, 0]
    for column in range(1, identity.shape[1]):  # one column at a time: no (R, M, C) tensor
        duplicate |= identity[:, None, column] == everyone[None, :, column]
    return duplicate


def mined_members(mined: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Which columns of the global batch are among each row's mined rows.

    The search runs over the batch's rows (M log M once, R * k look-ups), so that memory is O(R * (M + k)) and never
    O(R * M * k).

    Args:
        mined: (R, k) int64, -1 = padding, any order.
        rows: (M,) int64 >= 0, the row of each column; rows may repeat.

    Returns:
        (R, M) bool.
    """
    rows = rows.contiguous()
    ordered = rows.sort().values
    slot_of_column = torch.searchsorted(ordered, rows)  # (M,), equal rows share their first slot
    slot = torch.searchsorted(ordered, mined.contiguous())  # (R, k), M where mined is above all rows
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
