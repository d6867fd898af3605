# pyright: strict, reportUnknownMemberType=false
"""The inner loops of the bulk pass, each in the fastest form that was found for the CPU.

Measured per 1e9 elements on two cores of a Sapphire Rapids (S = 1024, C = 2048, one element in 5,000 above): torch.gt
and nonzero on bfloat16 0.85 s; integer comparison in numpy and nonzero over 8 flags at a time 0.18 s.
"""

import numpy as np
import torch

PARTITIONED = 512  # 32-bit numbers in a row; for longer rows numpy's partition takes 10 times as long as its sort
INTEGER = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


def above(values: torch.Tensor, limit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a matrix is positive and at least the limit of its row.

    Args:
        values: (S, C) bfloat16 or float32.
        limit: (S,) float32, not negative.

    Returns:
        (F,) int64 row and (F,) int64 column, in row-major order.
    """
    bits = INTEGER[values.dtype]
    least = limit.to(values.dtype)  # comparison in the type of the values needs no float32 copy of them
    least = (least.view(bits) + (least.float() < limit)).view(
        values.dtype
    )  # the least number that is not below `limit`
    if values.is_cuda or values.shape[1] % 8:
        flags = values >= least[:, None]
        flags &= values > 0
        row, column = flags.nonzero(as_tuple=True)
        return row, column
    # Nonnegative IEEE floats have the order of their bits; negative floats are negative integers.
    floor = np.maximum(least.view(bits).numpy(), 1)
    flags = np.greater_equal(values.view(bits).numpy(), floor[:, None])
    row, eight = torch.from_numpy(flags.view(np.int64)).nonzero(as_tuple=True)
    which, offset = torch.from_numpy(flags).view(len(flags), -1, 8)[row, eight].nonzero(as_tuple=True)
    return row[which], eight[which] * 8 + offset


def drop_below(values: torch.Tensor, least: float) -> None:
    """Set numbers that are not above `least` to 0, in place; (S, C) bfloat16 or float32."""
    if least == 0 and not values.is_cuda:
        bits = values.view(INTEGER[values.dtype]).numpy()
        np.maximum(bits, 0, out=bits)  # negative floats are negative integers
    else:
        torch.threshold_(values, least, 0.0)


def zero_above(values: torch.Tensor, other: torch.Tensor, edge: float) -> None:
    """Set values to 0, in place, where `other` (S, C) exceeds `edge`, and in half precision a few more."""
    floor = torch.tensor([edge])  # on the host, where `.item()` waits for no device
    if values.dtype != torch.float32:
        floor = (floor - floor.abs() * 2.0**-7).to(values.dtype)  # not above `edge`, as the nearest number may be
    if values.is_cuda or edge <= 0:
        values.masked_fill_(other > floor.item(), 0)
        return
    bits = INTEGER[values.dtype]
    numbers = values.view(bits).numpy()
    np.multiply(numbers, other.view(bits).numpy() <= floor.view(bits).item(), out=numbers)


def kth_largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """(T, C) nonnegative bfloat16 or float32 -> (T,) the k-th largest of each row, k <= C."""
    if values.is_cuda:
        return values.topk(k, dim=1, sorted=False).values.amin(dim=1)
    bits, place = values.view(INTEGER[values.dtype]).numpy(), values.shape[1] - k
    sort = bits.itemsize == 4 and bits.shape[1] > PARTITIONED
    ordered = np.sort(bits, axis=1) if sort else np.partition(bits, place, axis=1)
    return torch.from_numpy(ordered[:, place].copy()).view(values.dtype)


def nearly_kth_largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """As `kth_largest`; on the CPU perhaps a little less, never more.

    It is the k-th largest of maxima over a few numbers each. Measured on 1024 x 2048 bfloat16, k = 50: 0.5 ms instead
    of 7.
    """
    if not values.is_cuda:
        bits = values.view(INTEGER[values.dtype]).numpy()
        while (half := bits.shape[1] // 2) >= 4 * k and bits.shape[1] > PARTITIONED:
            bits = np.maximum(bits[:, :half], bits[:, half : 2 * half])
        values = torch.from_numpy(bits).view(values.dtype)
    return kth_largest(values, k)


class Room:
    """Memory of a CPU that is used again; on a GPU torch itself caches freed memory.

    The operating system maps new memory page by page: 2 ms for 1024 x 2048 bfloat16, which a product fills in 0.4 ms.
    """

    def __init__(self) -> None:
        self._kept: torch.Tensor | None = None

    def like(self, values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """An uninitialised tensor of this shape, with the dtype and device of `values`."""
        if values.is_cuda or self._kept is None or self._kept.shape != shape:
            self._kept = None if values.is_cuda else values.new_empty(shape)
        return values.new_empty(shape) if self._kept is None else self._kept


def order_of(target: torch.Tensor, count: int) -> torch.Tensor:
    """Stable order of (F,) integers below `count`."""
    if target.is_cuda:
        return torch.sort(target, stable=True).indices
    narrow = target.numpy().astype(np.int16 if count < 2**15 else np.int32)  # numpy sorts 16 bits by radix
    return torch.from_numpy(np.argsort(narrow, kind="stable"))
