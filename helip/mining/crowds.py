# pyright: strict, reportUnknownMemberType=false
"""Crowds of copies: a placeholder picture under thousands of captions, one caption under thousands of pictures.

The rows of a crowd have higher scores with each other than with any hard pair, and the rules forbid all those pairs. A
search that kept them would run out of room on every row of the crowd. So a target keeps only the first few candidates
that a rule surely forbids, for the statistics, and drops the others.

Legend: T targets, F kept candidates of one block in a flat list.
"""

import torch


class Crowds:
    """How many surely forbidden candidates each target has met.

    Args:
        count: T.
        most: number of them that a target keeps.
        device: of the candidates.

    Attributes:
        known: whether any target had met `most` of them at the last `look`.
    """

    def __init__(self, count: int, most: int, device: torch.device) -> None:
        self.most = most
        self.met = torch.zeros(count, dtype=torch.int32, device=device)
        self.known = False

    @property
    def full(self) -> torch.Tensor:
        """(T,) bool: targets that have met a crowd, and keep no more of it."""
        return self.met >= self.most

    def look(self) -> None:
        """Update `known`; waits for the device."""
        self.known = bool(self.full.any())

    def expect(self, targets: torch.Tensor) -> None:
        """From now on, the targets in a (T,) mask keep no more of them."""
        self.met[targets] = self.most
        self.known = True

    def surplus(self, target: torch.Tensor, forbidden: torch.Tensor) -> torch.Tensor:
        """(F,) bool: kept candidates of a block that are to be dropped.

        Args:
            target: (F,) positions of the targets, rising.
            forbidden: (F,) bool, pairs that a rule surely forbids.
        """
        ones = forbidden.to(torch.int32)
        here = torch.zeros_like(self.met).index_add_(0, target, ones)
        before = self.met + here - torch.cumsum(here, 0)  # in all blocks, minus those of lower targets in this one
        rank = torch.cumsum(ones, 0) - ones + before[target]
        self.met += here
        return forbidden & (rank >= self.most)
