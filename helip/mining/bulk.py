"""The cheap half of an exact search: cosines in low precision that are never too small.

A unit row u is replaced by a rounded copy q, with |q - u| <= e measured for every row. By Cauchy-Schwarz
    u_i . u_j  <=  q_i . q_j + (1 + e_i) e_j + e_i,
to which the float32 accumulation of d products adds at most 1.02 (d + 2) 2^-24. Two more columns, (1 + e_i, e_i + that)
on the side of the targets and (e_j, 1) on the side of the candidates, let one matrix product return the upper bound
itself: no pass over the score matrix is spent on errors. Measured on real embeddings: e is about 0.0014 in bfloat16,
where the worst case would be 2^-9 = 0.0020.

Legend: N rows, d width, D = d + 2 padded to a multiple of 32, R rows of a block.
"""

from dataclasses import dataclass

import numpy as np
import torch

from helip.mining.vectors import Pairs, Vectors

ULP_FLOAT32 = 2.0**-24  # largest relative error of one rounding
ULP_BFLOAT16 = 2.0**-9
ALIGN = 32  # columns; AMX and tensor cores read whole tiles
CONVERT = 2048  # rows rounded at once
ABSENT = -4.0  # upper bound given to a row that is not valid, so that no threshold lets it pass


@dataclass(frozen=True)
class Rounded:
    """Rows of one modality as candidates, in the precision of the bulk pass.

    Attributes:
        values: (R, D) bfloat16 or float32: rounded unit row, e, 1, zeros. A row that is not valid: zeros, ABSENT, 0.
        error: (R,) float32, e; 0 where not valid.
    """

    values: torch.Tensor
    error: torch.Tensor


def padded_width(width: int) -> int:
    """D for d."""
    return -(-(width + 2) // ALIGN) * ALIGN


def round_rows(vectors: Vectors, rows: slice, dtype: torch.dtype, error: torch.Tensor | None = None) -> Rounded:
    """Round the unit rows of a block to `dtype`.

    Args:
        vectors: one modality.
        rows: the block.
        dtype: bfloat16 or float32.
        error: (R,) as an earlier call measured it; measured if None.
    """
    unit = torch.from_numpy(np.ascontiguousarray(vectors.unit(rows)))  # (R, d) float32
    valid = torch.from_numpy(vectors.scale[rows] > 0)
    width = unit.shape[1]
    values = torch.zeros(len(unit), padded_width(width), dtype=dtype)
    values[:, :width] = unit
    if error is None:
        # 4 roundings: two made `unit`, measuring |q - unit| adds its own; 2 more of `dtype`, in which e is stored
        error = torch.linalg.vector_norm(unit - values[:, :width].float(), dim=1) * 1.001 + 4 * ULP_FLOAT32
        error = torch.where(valid, error * (1 + 2 * ulp_of(dtype)), torch.zeros(()))
    values[:, width] = torch.where(valid, error, torch.full((), ABSENT))
    values[:, width + 1] = valid.to(dtype)
    return Rounded(values, error)


def as_targets(block: Rounded, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The side of the targets.

    Returns:
        (R, D) values whose product with candidates is an upper bound of the cosine, and (R,) float32 `gap`, what they
        add beside (1 + e_i) e_j.
    """
    ulp = ulp_of(block.values.dtype)
    gap = (block.error + 1.05 * padded_width(width) * ULP_FLOAT32) * (1 + 4 * ulp)
    values = block.values.clone()
    values[:, width] = (1 + block.error) * (1 + 4 * ulp)
    values[:, width + 1] = gap
    return values, gap


def lower_bound(upper: torch.Tensor, gap: torch.Tensor, worst: float, ulp: float) -> torch.Tensor:
    """Lower bounds of true cosines, from upper bounds as computed and rounded; meaningful where those are positive.

    Args:
        upper: (...) float32.
        gap: broadcastable to it, from `as_targets`.
        worst: largest e of the candidates.
        ulp: rounding of `upper`.
    """
    return upper * (1 - 2 * ulp) - 2 * (gap * (1 + 2 * ulp) + worst * 1.01 * (1 + 8 * ulp))


def ulp_of(dtype: torch.dtype) -> float:
    """Largest relative error of one rounding to `dtype`."""
    return ULP_BFLOAT16 if dtype == torch.bfloat16 else ULP_FLOAT32


class BulkSource:
    """Rounded rows of both modalities: kept if they fit in `memory` bytes, else made again for each read."""

    def __init__(self, pairs: Pairs, dtype: torch.dtype, memory: int, device: torch.device) -> None:
        self.pairs, self.dtype, self.device = pairs, dtype, device
        size = len(pairs) * sum(padded_width(v.width) for v in pairs.modalities) * dtype.itemsize
        self.kept = size <= memory
        self._error = [torch.zeros(len(pairs), device=device) for _ in pairs.modalities]
        self._values = [self._round_all(m) for m in (0, 1)]

    def _round_all(self, modality: int) -> torch.Tensor | None:
        vectors, count = self.pairs.modalities[modality], len(self.pairs)
        shape = (count if self.kept else 0, padded_width(vectors.width))
        values = torch.empty(shape, dtype=self.dtype, device=self.device)
        for start in range(0, count, CONVERT):
            rows = slice(start, min(start + CONVERT, count))
            block = round_rows(vectors, rows, self.dtype)
            self._error[modality][rows] = block.error.to(self.device)
            if self.kept:
                values[rows] = block.values.to(self.device)
        return values if self.kept else None

    def rows(self, rows: slice) -> tuple[Rounded, Rounded]:
        """(image, text) of a block of rows."""
        image, text = (self._read(m, rows) for m in (0, 1))
        return image, text

    def _read(self, modality: int, rows: slice) -> Rounded:
        values, error = self._values[modality], self._error[modality][rows]
        if values is not None:
            return Rounded(values[rows], error)
        block = round_rows(self.pairs.modalities[modality], rows, self.dtype, error.cpu())
        return Rounded(block.values.to(self.device), error)
