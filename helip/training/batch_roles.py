"""The role of each pair of the global batch for each pair of this rank: itself, hard pair, duplicate, normal negative.

All shapes are static (no `nonzero`), so that a step never waits for the GPU. The largest tensors are boolean (R, M),
for a block of R rows; `Layout` holds what is computed once per batch.

Legend: B pairs of this rank, R of them in a block, M pairs of the global batch (rank r holds columns r * B ...),
k mined rows per target, C identity columns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from helip.errors import HelipError
from helip.training.gather import gather_rows


@dataclass(frozen=True)
class Pairs:
    """The roles of columns for a block of this rank's rows."""

    own: Tensor  # (R,) int64, the column of the row's own pair
    is_target: Tensor  # (R,) bool
    column: Tensor  # (B,) int64, the column of each pair of this rank
    hard: Tensor  # (B,) bool, this pair is a hard pair of row `owner` of the block, and no known duplicate of it
    owner: Tensor  # (B,) int64, row of the target in the block; 0 if `hard` is False
    normal: Tensor  # (R, M) bool, N_i: the normal negatives of a target; all False for other rows
    duplicate: Tensor | None  # (R, M) bool, known duplicates except the pair itself; None: no masking
    targets: Tensor  # () int64, targets in the global batch, at least 1


@dataclass(frozen=True)
class Layout:
    """A batch for which the roles of any block of this rank's rows can be computed."""

    target: Tensor  # (B,) int64
    identity: Tensor | None  # (B, C) int64
    mined: Tensor | None  # (B, k) int64
    mask_duplicates: bool
    first: int  # the column of this rank's first pair
    columns: int  # M
    everyone: Tensor  # (M, C) int64, identity of the global batch; C is 0 without one
    targets: Tensor  # () int64, as in Pairs

    def rows(self, start: int, stop: int) -> Pairs:
        """The roles of all columns for the rows `start` to `stop` of this rank.

        A hard pair that is a known duplicate of its target (same row, image or caption) is no negative: it is in
        neither H_i nor N_i, and a target without another hard pair contributes 0 to the margin.
        """
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

    def duplicates(self, columns: Tensor) -> Tensor | None:
        """Known duplicates of each of these columns of the global batch, except itself: (R,) int64 -> (R, M) bool."""
        if self.identity is None or not self.mask_duplicates:
            return None
        duplicate = known_duplicates(self.everyone[columns], self.everyone)
        return duplicate.scatter_(1, columns[:, None], False)


def lay_out(
    target: Tensor,
    identity: Tensor | None,
    mined: Tensor | None,
    mask_duplicates: bool,
    rank: int = 0,
    world_size: int = 1,
) -> Layout:
    """Gather the data of the roles, once per batch; all ranks have the same B.

    Args:
        target: (B,) int64: own position (a target), its target's position (a hard pair), -1 (filler).
        identity: (B, C) int64, row in column 0, then digests; two pairs equal in any column are known duplicates.
        mined: (B, k) int64 rows of a target's top k, padded with -1; needs `identity`.
        mask_duplicates: whether known duplicates are removed from the negatives.

    Raises:
        HelipError: the shapes do not agree, or `mined` is given without `identity`.
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


def known_duplicates(identity: Tensor, everyone: Tensor) -> Tensor:
    """(R, C) and (M, C) int64 -> (R, M) bool: equal in at least one column; includes the pair itself."""
    duplicate = identity[:, None, 0] == everyone[None, :, 0]
    for column in range(1, identity.shape[1]):  # one column at a time avoids an (R, M, C) tensor
        duplicate |= identity[:, None, column] == everyone[None, :, column]
    return duplicate


def mined_members(mined: Tensor, rows: Tensor) -> Tensor:
    """The columns of the global batch that are mined rows of each row.

    Sorts the rows of the batch and looks the mined rows up, so that memory is O(R * (M + k)), not O(R * M * k).

    Args:
        mined: (R, k) int64, -1 = padding, any order.
        rows: (M,) int64 >= 0, the row of each column; rows may repeat.

    Returns:
        (R, M) bool.
    """
    rows = rows.contiguous()
    ordered = rows.sort().values
    slot_of_column = torch.searchsorted(ordered, rows)  # (M,), equal rows have the same slot
    slot = torch.searchsorted(ordered, mined.contiguous())  # (R, k), M if above all rows
    found = ordered[slot.clamp(max=len(rows) - 1)] == mined
    present = torch.zeros(mined.shape[0], len(rows) + 1, dtype=torch.bool, device=rows.device)
    present.scatter_(1, torch.where(found, slot, len(rows)), True)  # rows that are not in the batch mark the extra slot
    return present[:, slot_of_column]


def _check_shapes(target: Tensor, identity: Tensor | None, mined: Tensor | None) -> None:
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
