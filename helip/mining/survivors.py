# pyright: strict, reportUnknownMemberType=false
"""Candidates that may still be among the best K of their target, and the threshold that thins them.

Legend: T targets, S of them in one call, C candidates of a block, K partners kept, F survivors in a flat list.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from helip.mining.bulk import ABSENT, lower_bound
from helip.mining.scan import above, drop_below, kth_largest, order_of, zero_above
from helip.mining.settings import SCORES, Rules, SearchSettings
from helip.mining.vectors import Pairs

ROOM = 16  # survivors allowed per target, in units of K; beyond, the target is redone in full precision
LEAST_ROOM = 1024


class Survivors:
    """Flat lists of (target, candidate, lower and upper bound of the score), and a threshold per target.

    Args:
        targets: (T,) int64 rows of the targets.
        pairs: for groups and validity.
        settings: rules and depth.
        ulp: relative rounding of the cosines that `add` is given.
        device: of those cosines.
        single: `add` will be called for one block only, so that its thresholds are the last.
        slack: 0 proves that no true hard pair is dropped; more trusts the order of upper bounds and keeps so many more.
    """

    def __init__(
        self,
        targets: np.ndarray,
        pairs: Pairs,
        settings: SearchSettings,
        ulp: float,
        device: torch.device,
        single: bool = False,
        slack: int = 0,
    ) -> None:
        self.single, self.proven = single, slack == 0
        self.count, self.settings, self.ulp, self.device = len(targets), settings, ulp, device
        self.rows = torch.from_numpy(targets).to(device)
        self.groups = [torch.from_numpy(g).to(device) for g in pairs.groups if g is not None]
        self.keep = settings.depth + settings.skip_first + slack
        self._margin = (1 + ulp) ** 4  # of a bound of a product, rounded three times
        self.room = max(LEAST_ROOM, ROOM * self.keep)
        self.threshold = torch.zeros(self.count, device=device)  # (T,) lower bound of the K-th best score
        self.threshold[~torch.from_numpy(pairs.valid[targets]).to(device)] = float("inf")  # nothing for invalid targets
        self.overflowed = torch.zeros(self.count, dtype=torch.bool, device=device)
        nothing = torch.empty(0, dtype=torch.int32, device=device)
        self._parts = [Flat(nothing, nothing, nothing.float(), nothing.float())]
        self._next, self._started, self._ordered = 0.0, False, single

    def add(
        self,
        part: slice,
        columns: torch.Tensor,
        own: torch.Tensor,
        upper: list[torch.Tensor],
        gap: list[torch.Tensor],
        worst: list[float],
    ) -> None:
        """Take in one block of upper bounds; those of the first block of all also make the first thresholds.

        Args:
            part: positions of the S targets among the T.
            columns: (C,) int64 rows of the candidates; no candidate comes twice to the same target.
            own: (S,) int64 place of each target itself among the columns; outside 0 .. C - 1: not there.
            upper: image and text, (S, C) in the precision of the bulk pass; used up.
            gap: image and text, (S,) float32, see `bulk.as_targets`.
            worst: image and text, largest rounding error of the candidates.
        """
        inside = ((own >= 0) & (own < len(columns))).nonzero()[:, 0]
        for values in upper:
            values[inside, own[inside]] = ABSENT
        score = self._product(*upper)
        if not self._started and score.shape[1] >= self.keep:
            first = self._first_threshold(
                score, upper, gap, worst, self._grouped(self.rows[part, None], columns[None, :])
            )
            self.threshold[part] = torch.maximum(self.threshold[part], first)
        target, column = above(score, self.threshold[part] / self._margin)
        target, column = self._cut(part, target, column)
        if self.single:  # thresholds will not move, so that bounds are of no more use
            none = torch.empty(0, device=self.device)
            self._parts.append(Flat((target + part.start).int(), columns[column].int(), none, none))
            return
        values = score[target, column].float()
        same = self._grouped(self.rows[part][target], columns[column])
        lower = self._lower([x[target, column].float() for x in upper], [g[target] for g in gap], worst, same)
        self._parts.append(Flat((target + part.start).int(), columns[column].int(), lower, values))

    def limits(self, part: slice) -> tuple[torch.Tensor, Rules]:
        """What a fused pass drops by: (S,) float32 thresholds of the score, and the rules of a block."""
        low_image, low_text = (max(low, 0.0) * (1 - 2 * self.ulp) for low in self.settings.lows)
        return self.threshold[part] / self._margin, Rules(SCORES.index(self.settings.score), low_image, low_text)

    def take(
        self,
        part: slice,
        columns: torch.Tensor,
        gap: list[torch.Tensor],
        worst: list[float],
        target: torch.Tensor,
        column: torch.Tensor,
        image: torch.Tensor,
        text: torch.Tensor,
        counts: torch.Tensor,
    ) -> None:
        """As `add`, with what `kernels.fused_survivors` let through of the block: its results are the last five."""
        over = torch.zeros_like(self.overflowed)
        over[part] = counts > self.room
        self._overflow(over)
        fine = (~self.overflowed[part][target]).nonzero()[:, 0]
        target, column, image, text = target[fine], column[fine], image[fine], text[fine]
        same = self._grouped(self.rows[part][target], columns[column])
        lower = self._lower([image, text], [g[target] for g in gap], worst, same)
        score = (image * text, image, text)[SCORES.index(self.settings.score)]
        self._parts.append(Flat((target + part.start).int(), columns[column].int(), lower, score))

    def tighten(self, seen: float) -> None:
        """Raise thresholds and drop what falls below; to be called after each block with the candidates seen so far.

        That costs as much as a block of candidates, and a threshold falls behind only by the factor that the number of
        candidates seen has grown by: once per doubling is enough.
        """
        self._started = True
        if seen < self._next:
            return
        self._next = 2 * seen
        flat, place, most = self._sorted()
        if most >= self.keep:
            table = torch.zeros(self.count * most, device=self.device)
            table[place + flat.target * most] = flat.lower
            self.threshold = torch.maximum(self.threshold, kth_largest(table.view(-1, most), self.keep))
            flat = flat.pick(flat.upper * self._margin >= self.threshold[flat.target])
        self._parts, self._ordered = [self._without_crowds(flat)], True

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """After the last block.

        Returns:
            (T, C) int64 rows of the survivors, -1 padded, and the positions of the targets that had too many of them,
            whose rows are empty.
        """
        if self.single:
            self._parts = [self._without_crowds(self._merged())]
        else:
            self.tighten(float("inf"))
        flat, place, most = self._sorted()
        table = torch.full((self.count * most,), -1, dtype=torch.int64, device=self.device)
        table[place + flat.target * most] = flat.column.long()
        return table.view(-1, most).cpu().numpy(), np.flatnonzero(self.overflowed.cpu().numpy())

    def _product(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """(S, C) upper bound of the score; 0 or less where a similarity is surely not positive or under its minimum."""
        least = [max(low, 0.0) * (1 - 2 * self.ulp) for low in self.settings.lows]
        if self.settings.score != "joint":
            values, low = (image, least[0]) if self.settings.score == "image" else (text, least[1])
            drop_below(values, low)
            return values
        drop_below(image, least[0])
        if least[1] > 0:  # else a negative text bound makes the product negative, which is enough
            drop_below(text, least[1])
        return image * text

    def _first_threshold(
        self,
        score: torch.Tensor,
        upper: list[torch.Tensor],
        gap: list[torch.Tensor],
        worst: list[float],
        same: torch.Tensor | None,
    ) -> torch.Tensor:
        """(S,) lower bound of the K-th best score, from upper bounds alone, which is cheaper than from lower ones.

        With P = x y the product of two upper bounds and g the gap of each to its lower bound, the lower product is at
        least P - g_y x - g_x y, and for 0 <= x, y <= 1 that is least where one of them is 1 (the sum is convex in x).
        """
        allowed = score.clone()
        gaps = [2 * (g * (1 + 2 * self.ulp) + w * 1.01 * (1 + 8 * self.ulp)) for g, w in zip(gap, worst, strict=True)]
        for values, g, low, high in zip(upper, gaps, self.settings.lows, self.settings.highs, strict=True):
            if high < 1:
                zero_above(allowed, values, high / (1 + 2 * self.ulp))
            if low > 0:
                zero_above(allowed, -values, -(low + float(g.max())) / (1 - 2 * self.ulp))
        if same is not None:
            allowed.masked_fill_(same, 0)
        best = kth_largest(allowed, self.keep).float()
        if not self.proven:
            return best
        if self.settings.score == "joint":
            lost = torch.maximum(gaps[0] + gaps[1] * best, gaps[1] + gaps[0] * best)
        else:
            lost = gaps[0 if self.settings.score == "image" else 1]
        return (best * (1 - 8 * self.ulp) - 1.05 * lost).clamp_(min=0.0)

    def _lower(
        self, upper: list[torch.Tensor], gap: list[torch.Tensor], worst: list[float], same: torch.Tensor | None
    ) -> torch.Tensor:
        """(F,) lower bound of the score; 0 where a rule may forbid the pair."""
        low = upper
        if self.proven:
            low = [lower_bound(upper[m], gap[m], worst[m], self.ulp).clamp_(min=0.0) for m in (0, 1)]
        arm = self.settings.score
        value = low[0] * low[1] if arm == "joint" else low[0 if arm == "image" else 1]
        for m in (0, 1):
            if self.settings.highs[m] < 1:
                value = value * (upper[m] * (1 + 2 * self.ulp) <= self.settings.highs[m])
            value = value * (low[m] >= self.settings.lows[m])
        if same is not None:
            value = value * ~same
        return value * (1 - 1e-6)

    def _grouped(self, target: torch.Tensor, column: torch.Tensor) -> torch.Tensor | None:
        """Whether rows `target` and `column` (broadcastable) share a group."""
        same = [(g[target] == g[column]) & (g[target] >= 0) for g in self.groups]
        if not same:
            return None
        together = cast(list[torch.Tensor], torch.broadcast_tensors(*same))
        return torch.stack(together).any(dim=0)

    def _cut(self, part: slice, target: torch.Tensor, column: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give up targets with too many survivors in one block, before they fill the memory."""
        if len(target) <= 8 * self.keep * (part.stop - part.start):
            return target, column
        counts = torch.bincount(target, minlength=part.stop - part.start)
        over = torch.zeros_like(self.overflowed)
        over[part] = counts > self.room
        self._overflow(over)
        fine = ~self.overflowed[part][target]
        return target[fine], column[fine]

    def _overflow(self, over: torch.Tensor) -> None:
        self.overflowed |= over
        self.threshold[over] = float("inf")

    def _without_crowds(self, flat: "Flat") -> "Flat":
        """Give up targets that too many candidates survive for."""
        counts = torch.bincount(flat.target, minlength=self.count)
        if int(counts.max()) <= self.room:
            return flat
        self._overflow(counts > self.room)
        return flat.pick(~self.overflowed[flat.target])

    def _merged(self) -> "Flat":
        return Flat(*(torch.cat(column) for column in zip(*self._parts, strict=True)))

    def _sorted(self) -> tuple["Flat", torch.Tensor, int]:
        """Survivors by target, their places in the lists of their targets, the length of the longest list, or 1."""
        flat = self._merged()
        if not (self._ordered and len(self._parts) == 1):
            flat = flat.pick(order_of(flat.target, self.count))
        counts = torch.bincount(flat.target, minlength=self.count)
        starts = torch.cumsum(counts, 0) - counts
        place = torch.arange(len(flat.target), device=self.device) - starts[flat.target]
        return flat, place, max(1, int(counts.max()))


@dataclass(frozen=True)
class Flat:
    """F survivors: (F,) int32 position of the target, (F,) int32 row of the candidate, (F,) float32 bounds."""

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
