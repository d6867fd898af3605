"""What one rank hands to one training step.

Legend: B pairs of this rank, k mined rows kept per target, L tokens.
"""

from typing import TypedDict

import torch


class Batch(TypedDict):
    """Targets first, then their partners; every entry is one image-text pair of the loss."""

    image: torch.Tensor  # (B, 3, H, W) float32
    text: torch.Tensor  # (B, L) int64
    row: torch.Tensor  # (B,) int64, row in the ShardIndex
    target: torch.Tensor  # (B,) int64: own position (a target), its target's position (a hard pair), -1 (filler)
    identity: torch.Tensor  # (B, 3) int64: row, image digest, caption digest; equal in any column = known duplicate
    mined: torch.Tensor  # (B, k) int64, sorted mined rows of a target's top k, -1 padded; all -1 for the others
    replaced: int  # rows of this batch that took the place of an unreadable one
