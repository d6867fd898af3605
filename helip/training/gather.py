"""Collectives of the loss: one gather with gradient for both towers' features, one without for integers.

Not open_clip.loss.gather_features, because it uses torch.distributed.nn, which is deprecated in torch 2.15; tests
compare the two. One collective transfers the features of both towers.

Legend: B pairs of this rank, W ranks, M = W * B pairs of the global batch, D embedding width.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from helip.errors import HelipError


class _GatherRows(torch.autograd.Function):
    """(B, D) on each of W ranks -> (W * B, D) on all; backward sums the gradients of all ranks for this rank's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return gather_rows(rows)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        gradient = grad_outputs[0].contiguous()
        count = gradient.shape[0] // dist.get_world_size()
        if dist.get_backend() == dist.Backend.NCCL:
            own = gradient.new_empty((count, *gradient.shape[1:]))
            dist.reduce_scatter_tensor(own, gradient)
            return own
        # Older gloo has no reduce_scatter; all_reduce and a slice give the same result with twice the traffic.
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank() * count :][:count]


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate (B, ...) tensors of all ranks in rank order, without gradient: (W * B, ...)."""
    rows = rows.contiguous()
    gathered = rows.new_empty((dist.get_world_size() * rows.shape[0], *rows.shape[1:]))
    dist.all_gather_into_tensor(gathered, rows)
    return gathered


def gather_features(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Features of the global batch, with gradient to every rank's rows.

    All ranks must call it with the same B, and must run backward through it the same number of times.

    Args:
        image: (B, D) image features of this rank, any floating type.
        text: (B, D) text features of this rank, same type.

    Returns:
        (M, D) image and (M, D) text features, rows of rank r at r * B.
    """
    both: Tensor = _GatherRows.apply(torch.cat([image, text], dim=1))  # type: ignore[assignment]  # (M, 2 D)
    return both[:, : image.shape[1]], both[:, image.shape[1] :]


def check_process_group(rank: int, world_size: int) -> None:
    """Raise HelipError unless torch.distributed runs as `rank` of `world_size`; others would hang or mix up rows."""
    running = dist.is_available() and dist.is_initialized()
    actual = (dist.get_rank(), dist.get_world_size()) if running else (0, 1)
    if actual != (rank, world_size):
        raise HelipError(
            f"the loss was told rank {rank} of {world_size} but torch.distributed runs rank {actual[0]} of {actual[1]}:"
            " set loss.rank and loss.world_size after init_process_group"
        )
