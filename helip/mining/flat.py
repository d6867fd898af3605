# pyright: strict, reportUnknownMemberType=false
"""Candidates of a search: as blocks, and the kept ones as flat lists.

Legend: T targets, S of them in one call, C candidates of a block, F kept candidates.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from helip.mining.bounds import Rounded
from helip.mining.settings import Rules


@dataclass(frozen=True)
class Block:
    """Candidates, on the device of the search.

    Attributes:
        rows: (C,) int64.
        sides: image and text, C rows each; zero rows may follow, for which `rows` holds any number.
        own: (T,) int64 place of each target itself among `rows`; outside 0 .. C - 1 where it is not among them.
        worst: image and text, largest rounding error.
        valid: (C / 32) int32 bits of the candidates that take part; None: all of them do.
    """

    rows: torch.Tensor
    sides: tuple[Rounded, Rounded]
    own: torch.Tensor
    worst: list[float]
    valid: torch.Tensor | None = None


class Flat(NamedTuple):
    """F kept candidates: (F,) int32 position of the target, (F,) int32 row of the candidate, (F,) float32 bounds.

    The lower bound is 0 where a rule may forbid the pair; the upper bound is -1 where a pair is to be dropped.
    """

    target: torch.Tensor
    column: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor

    def pick(self, which: torch.Tensor) -> "Flat":
        """The candidates in a mask or at indices."""
        which = which.nonzero()[:, 0] if which.dtype == torch.bool else which
        return Flat(*(values[which] if len(values) else values for values in self))

    @classmethod
    def join(cls, parts: "list[Flat]") -> "Flat":
        """Concatenated."""
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def table(self, values: torch.Tensor, count: int, padding: float) -> torch.Tensor:
        """(T, longest list or 1) `values` (F,) of each target; the candidates must be sorted by target."""
        counts = torch.bincount(self.target, minlength=count)
        starts = torch.cumsum(counts, 0) - counts
        most = max(1, int(counts.max()))
        place = torch.arange(len(self.target), device=values.device) - starts[self.target] + self.target * most
        result = torch.full((count * most,), padding, dtype=values.dtype, device=values.device)
        result[place] = values
        return result.view(count, most)


@dataclass(frozen=True)
class Marked:
    """Candidates of a block that a fused pass keeps.

    Attributes:
        target: (F,) int32 position among the S targets, rising.
        column: (F,) int32 place among the candidates.
        image, text: (F,) float32 upper bounds.
        over: (S,) bool, targets with too many candidates, none of which are listed; None: no target has too many.
    """

    target: torch.Tensor
    column: torch.Tensor
    image: torch.Tensor
    text: torch.Tensor
    over: torch.Tensor | None


@dataclass(frozen=True)
class Limits:
    """Limits of a fused pass.

    Attributes:
        values: (5, S) float32, see `kernels.mark`.
        groups: (2, S) int32 group numbers of image and text, -1 for none; None where no target has met a crowd.
        rules: score and minima.
    """

    values: torch.Tensor
    groups: torch.Tensor | None
    rules: Rules
