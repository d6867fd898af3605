"""The batch of one rank for one training step, and its transfer from a loader worker to the main process.

Legend: B pairs of this rank, k mined rows kept per target, L tokens.
"""

from typing import Any, NamedTuple, TypedDict

import torch

ALIGNED = 16  # bytes; a typed view of a buffer must begin at a multiple of the type's size


class Batch(TypedDict):
    """Targets first, then their partners; every entry is one image-text pair of the loss."""

    image: torch.Tensor  # (B, 3, H, W) float32; uint8 until the device has normalised it (helip.data.byte_transforms)
    text: torch.Tensor  # (B, L) int64
    row: torch.Tensor  # (B,) int64, row in the ShardIndex
    target: torch.Tensor  # (B,) int64: own position (a target), its target's position (a hard pair), -1 (filler)
    identity: torch.Tensor  # (B, 3) int64: row, image digest, caption digest; equal in any column = known duplicate
    mined: torch.Tensor  # (B, k) int64, sorted mined rows of a target's top k, -1 padded; all -1 for the others
    replaced: int  # unreadable rows that were replaced by others


class Packed(NamedTuple):
    """A batch in one tensor, because each transferred tensor costs a socket handshake (3 ms on a busy core)."""

    buffer: torch.Tensor  # (bytes,) uint8
    layout: list[tuple[str, torch.dtype, list[int], int]]  # name, type, shape, first byte of each tensor
    others: dict[str, int]


def pack(batch: Any) -> Packed:
    """Copy a Batch into one buffer; used as collate_fn, therefore untyped."""
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    layout, end = [], 0
    for name, tensor in tensors.items():
        layout.append((name, tensor.dtype, list(tensor.shape), end))
        end += -(-tensor.nbytes // ALIGNED) * ALIGNED
    buffer = torch.empty(end, dtype=torch.uint8)
    for (_, _, _, first), tensor in zip(layout, tensors.values(), strict=True):
        buffer[first : first + tensor.nbytes] = tensor.contiguous().view(-1).view(torch.uint8)
    others = {name: value for name, value in batch.items() if isinstance(value, int)}
    return Packed(buffer, layout, others)


def unpack(packed: Packed) -> Batch:
    """The batch as views of its buffer, on the device of the buffer."""
    tensors = {}
    for name, dtype, shape, first in packed.layout:
        count = torch.Size(shape).numel() * dtype.itemsize
        tensors[name] = packed.buffer[first : first + count].view(dtype).view(shape)
    return Batch(**tensors, **packed.others)  # type: ignore[typeddict-item]
