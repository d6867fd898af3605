# pyright: strict, reportUnknownMemberType=false
"""Kept candidates of a search in flat lists. Legend: T targets, S of them in one call, C candidates, F kept ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from helip.mining.scan import order_of
from helip.mining.settings import Rules


@dataclass(frozen=True)
class Flat:
    """F kept candidates: (F,) int32 position of the target, (F,) int32 row of the candidate, (F,) float32 bounds.

    The lower bound is 0 where a rule may forbid the pair; the upper bound -1 where a pair is to be dropped.
    """

    target: torch.Tensor
    column: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.target, self.column, self.lower, self.upper))

    def pick(self, which: torch.Tensor) -> "Flat":
        """Those under a mask or at indices."""
        which = which.nonzero()[:, 0] if which.dtype == torch.bool else which
        return Flat(*(values[which] if len(values) else values for values in self))

    @classmethod
    def join(cls, parts: "list[Flat]") -> "Flat":
        """One after another."""
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def by_target(self, count: int) -> "Flat":
        """Sorted, in a stable order."""
        return self.pick(order_of(self.target, count))

    def table(self, values: torch.Tensor, count: int, padding: float) -> torch.Tensor:
        """(T, longest list or 1) `values` (F,) by target, which the list must be sorted by."""
        counts = torch.bincount(self.target, minlength=count)
        starts = torch.cumsum(counts, 0) - counts
        most = max(1, int(counts.max()))
        place = torch.arange(len(self.target), device=values.device) - starts[self.target] + self.target * most
        result = torch.full((count * most,), padding, dtype=values.dtype, device=values.device)
        result[place] = values
        return result.view(count, most)


@dataclass(frozen=True)
class Marked:
    """What a fused pass lets through of a block.

    Attributes:
        target: (F,) int32 position among the S targets, rising.
        column: (F,) int32 place among the candidates.
        image, text: (F,) float32 upper bounds.
        over: (S,) bool, targets with too many, which are not listed; None: none.
    """

    target: torch.Tensor
    column: torch.Tensor
    image: torch.Tensor
    text: torch.Tensor
    over: torch.Tensor | None


@dataclass(frozen=True)
class Limits:
    """What a fused pass drops by.

    Attributes:
        values: (5, S) float32, see `kernels.mark`.
        groups: (2, S) int32 numbers of groups of image and text, -1 for none; None without crowds.
        rules: score and minima.
    """

    values: torch.Tensor
    groups: torch.Tensor | None
    rules: Rules
