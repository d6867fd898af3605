# pyright: strict, reportUnknownMemberType=false
"""The cheap half of an exact search: cosines in low precision that are never too small.

A unit row u is replaced by a rounded copy q, with |q - u| <= e measured for every row. By Cauchy-Schwarz
    u_i . u_j  <=  q_i . q_j + (1 + e_i) e_j + e_i,
to which the float32 accumulation of d products adds at most 1.02 (d + 2) 2^-24, and twice that on tensor cores, which
truncate their sums (Fasi et al., Numerical behavior of NVIDIA tensor cores, 2021). Two more columns, (1 + e_i, e_i +
that) in the targets and (e_j, 1) in the candidates, make one matrix product return the upper bound itself, without
another pass over the score matrix. Measured on real embeddings: e is about 0.0014 in bfloat16, where the worst case
would be 2^-8 = 0.0039.

Legend: N rows, d width, D = d + 2 padded to a multiple of 4 (on a GPU of 64), R rows of a block.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from helip.artifacts.arrays import reserve
from helip.mining.vectors import Pairs, Vectors, free_memory
from helip.mining.workers import Workers

# Largest relative error of one rounding.
ULP = {dtype: torch.finfo(dtype).eps / 2 for dtype in (torch.bfloat16, torch.float16, torch.float32)}
ULP_FLOAT32 = ULP[torch.float32]
ALIGN = 4  # columns on a CPU: more padding costs time (32 columns: 4 % of a search of 1280 + 384), less alignment none
STEP = 64  # columns by which the kernels of a GPU advance, at most
CONVERT = 512  # rows rounded at once by a thread
ABSENT = -4.0  # upper bound of a row that is not valid (of an excluded copy: below -2): no threshold lets it pass


@dataclass(frozen=True)
class Rounded:
    """Rows of one modality as candidates, in the precision of the bulk pass.

    Attributes:
        values: (R, D) bfloat16, float16 or float32: rounded unit row, e, 1, zeros; for an invalid row zeros, ABSENT, 0.
        error: (R,) float32, e; 0 for an invalid row.
    """

    values: torch.Tensor
    error: torch.Tensor


def padded_width(width: int, align: int) -> int:
    """D for d."""
    return -(-(width + 2) // align) * align


def looped_width(width: int) -> int:
    """Columns that the kernels of a GPU multiply: the error columns only if they fit into the last step.

    At d = 384 that is 384 columns instead of 448, a seventh less work. What the products then lack is bounded for a
    whole block and added to them (see `lacks_errors`).
    """
    return -(-width // STEP) * STEP


def lacks_errors(width: int) -> bool:
    """Whether `looped_width` leaves out an error column."""
    return looped_width(width) < width + 2


def round_rows(
    vectors: Vectors, rows: slice | np.ndarray, dtype: torch.dtype, align: int, error: torch.Tensor | None = None
) -> Rounded:
    """Round the unit rows of a block to `dtype`.

    Args:
        vectors: one modality.
        rows: the block; an invalid row becomes a candidate that no threshold lets pass.
        dtype: bfloat16, float16 or float32.
        align: D is a multiple of it.
        error: (R,) from an earlier call; measured if None.
    """
    unit = torch.from_numpy(np.ascontiguousarray(vectors.unit(rows)))  # (R, d) float32
    valid = torch.from_numpy(vectors.scale[rows] > 0)
    width = unit.shape[1]
    values = torch.zeros(len(unit), padded_width(width, align), dtype=dtype)
    values[:, :width] = unit
    if error is None:
        # 4 roundings: two made `unit`, and measuring |q - unit| adds its own; 2 more of `dtype`, in which e is stored
        distance = cast(torch.Tensor, (unit - values[:, :width].float()).norm(dim=1))
        error = distance * 1.001 + 4 * ULP_FLOAT32
        error = torch.where(valid, error * (1 + 2 * ULP[dtype]) + ULP_FLOAT32, torch.zeros(()))
    values[:, width] = torch.where(valid, error, torch.full((), ABSENT))
    values[:, width + 1] = valid.to(dtype)
    return Rounded(values, error)


def as_targets(block: Rounded, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as targets.

    Returns:
        (R, D) values whose product with candidates is an upper bound of the cosine, and (R,) float32 `gap`, which the
        product contains besides (1 + e_i) e_j.
    """
    ulp = ULP[block.values.dtype]
    sums = 1.05 if block.values.device.type == "cpu" else 2.1
    gap = (block.error + sums * block.values.shape[1] * ULP_FLOAT32) * (1 + 4 * ulp)
    values = block.values.clone()
    values[:, width] = (1 + block.error) * (1 + 4 * ulp)
    values[:, width + 1] = gap
    return values, gap


def lower_bound(upper: torch.Tensor, gap: torch.Tensor, worst: float, ulp: float) -> torch.Tensor:
    """Lower bounds of true cosines, from upper bounds as computed and rounded; valid where those are positive.

    Args:
        upper: (...) float32.
        gap: broadcastable to it, from `as_targets`.
        worst: largest e of the candidates.
        ulp: rounding of `upper`.
    """
    return upper * (1 - ulp - 2 * ULP_FLOAT32) - excess(gap, worst, ulp)


def excess(gap: torch.Tensor, worst: float, ulp: float) -> torch.Tensor:
    """Most by which an upper bound exceeds its cosine, besides the bound's own rounding; arguments as above."""
    return 2 * (gap * (1 + 2 * ulp) + worst * 1.01 * (1 + 8 * ulp))


class RowSource:
    """Rounded rows of both modalities, made once.

    They are kept on the device if they fit there, else in the host's pinned memory, from which blocks are streamed to a
    GPU, else in an unnamed file that the system deletes with the process, else they are made again for each read.

    Args:
        pairs: the embeddings.
        dtype: bfloat16, float16 or float32.
        memory: bytes that may be kept in memory. For a GPU the limits are half of its free memory, and a quarter of the
            host's free memory if that is more than this.
        device: where rows are wanted.
        order: (M,) int64 rows to hold, in this order; all N in their own order if None. `rows` counts along it.
        scratch: folder for the file; None for no file.
    """

    def __init__(
        self,
        pairs: Pairs,
        dtype: torch.dtype,
        memory: int,
        device: torch.device,
        order: np.ndarray | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.pairs, self.dtype, self.device, self.order = pairs, dtype, device, order
        self.count = len(pairs) if order is None else len(order)
        self.align = ALIGN if device.type == "cpu" else STEP
        widths = [padded_width(v.width, self.align) for v in pairs.modalities]
        size = self.count * sum(widths) * dtype.itemsize
        if device.type == "cpu":
            self.kept, pinned = size <= memory, False
        else:
            self.kept = size <= free_memory(device) // 2
            pinned = not self.kept and size <= max(memory, host_memory() // 4)
        self._values = [self._room(width, scratch, pinned) for width in widths]
        self._host_error = [np.zeros(self.count, np.float32) for _ in widths]
        self._fill()
        self._error = [torch.from_numpy(error).to(device) for error in self._host_error]
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # other streams read it from here on

    def _room(self, width: int, scratch: Path | None, pinned: bool) -> torch.Tensor | None:
        """(M, D) uninitialised; None for rows that are made again for each read."""
        if self.kept:
            return torch.empty((self.count, width), dtype=self.dtype, device=self.device)
        if pinned:
            return torch.empty((self.count, width), dtype=self.dtype, pin_memory=True)
        if scratch is None:
            return None
        with tempfile.TemporaryFile(dir=scratch) as file:
            bytes_of = np.memmap(file, np.uint8, "w+", shape=(self.count * width * self.dtype.itemsize,))
            reserve(file.fileno(), scratch)
        return torch.from_numpy(bytes_of).view(self.dtype).view(self.count, width)

    def _fill(self) -> None:
        workers = Workers()

        def convert(start: int) -> None:
            workers.check()
            part = slice(start, min(start + CONVERT, self.count))
            for modality, vectors in enumerate(self.pairs.modalities):
                block = self._absent(vectors, part, round_rows(vectors, self._rows(part), self.dtype, self.align))
                self._host_error[modality][part] = block.error.numpy()
                if (values := self._values[modality]) is not None:
                    values[part] = block.values.to(values.device)

        workers.map(convert, range(0, self.count, CONVERT))

    def _absent(self, vectors: Vectors, places: slice | np.ndarray, block: Rounded) -> Rounded:
        """Let no threshold pass rows that may not be partners; `as_targets` overwrites this for targets."""
        if self.pairs.copies is not None:
            block.values[torch.from_numpy(~self.pairs.partner[self._rows(places)]), vectors.width] = ABSENT
        return block

    def worst(self, places: slice | np.ndarray) -> list[float]:
        """Largest error among some rows, of image and of text; does not wait for a GPU."""
        return [float(error[places].max(initial=0.0)) for error in self._host_error]

    def _rows(self, places: slice | np.ndarray) -> slice | np.ndarray:
        return places if self.order is None else self.order[places]

    def rows(self, places: slice | np.ndarray, multiple: int = 1) -> tuple[Rounded, Rounded]:
        """(image, text) of the rows at some places of `order`, padded with zero rows to a multiple."""
        image, text = (self._read(m, places, multiple) for m in (0, 1))
        return image, text

    def _read(self, modality: int, places: slice | np.ndarray, multiple: int) -> Rounded:
        values, errors = self._values[modality], self._error[modality]
        if isinstance(places, slice):
            error = errors[places]
            if values is not None:
                return padded(Rounded(values[places].to(self.device, non_blocking=True), error), multiple)
        else:
            index = torch.from_numpy(places)
            error = errors.index_select(0, index.to(self.device))
            if values is not None:
                result = values.new_empty((len(places) + -len(places) % multiple, values.shape[1]))
                # 7 times as fast as [] with padding after it
                torch.index_select(values, 0, index.to(values.device), out=result[: len(places)])
                result[len(places) :] = 0
                more = (0, len(result) - len(places))
                return Rounded(result.to(self.device), torch.nn.functional.pad(error, more))
        host = torch.from_numpy(self._host_error[modality][places])
        vectors = self.pairs.modalities[modality]
        block = round_rows(vectors, self._rows(places), self.dtype, self.align, host)
        block = self._absent(vectors, places, block)
        return padded(Rounded(block.values.to(self.device), error), multiple)


def host_memory() -> int:
    """Bytes of memory available without swapping; 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 0


def padded(side: Rounded, multiple: int) -> Rounded:
    """Padded with zero rows to a multiple; as candidates their bound is 0, which no threshold lets pass."""
    more = -len(side.values) % multiple
    if not more:
        return side
    grow = torch.nn.functional.pad
    return Rounded(grow(side.values, (0, 0, 0, more)), grow(side.error, (0, more)))
