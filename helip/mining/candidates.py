# pyright: strict, reportUnknownMemberType=false
"""Candidates that may still be among the best K of their target, and the thresholds that drop the others.

Legend: T targets, S of them in one call, C candidates of a block, K partners kept, F kept candidates in a flat list.
"""

from typing import cast

import numpy as np
import torch

from helip.mining.bounds import ABSENT, ULP_FLOAT32, lacks_errors, lower_bound
from helip.mining.crowds import Crowds
from helip.mining.flat import Flat, Limits, Marked
from helip.mining.scan import Room, above, kth_largest, order_of
from helip.mining.scores import first_threshold, lower_scores, upper_scores
from helip.mining.settings import SCORES, Rules, SearchSettings
from helip.mining.vectors import Pairs

ROOM = 16  # candidates kept per target, in units of K; a target with more is redone in full precision
LEAST_ROOM = 1024
COPIES = 64  # surely forbidden candidates that a target may keep at least, for the statistics


class Candidates:
    """Flat lists of (target, candidate, lower and upper bound of the score), and a threshold per target.

    Args:
        targets: (T,) int64 rows of the targets.
        pairs: for groups and validity.
        settings: rules and depth.
        ulp: relative rounding of the cosines that `add` is given.
        device: of those cosines.
        single: there is only one block, so that its thresholds are the last.
        slack: 0 keeps all candidates that may be hard pairs by proven bounds. A number above 0 trusts the order of the
            upper bounds and keeps this many candidates beyond K.

    Attributes:
        parts: the kept candidates, block by block.
        threshold: (T,) float32 lower bound of the K-th best score; infinite for a target that keeps no more candidates.
        room: candidates that a target may keep.
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
        self.widths = pairs.image.width, pairs.text.width
        self.rows = torch.from_numpy(targets).to(device)
        self.groups, self.partner = pairs.groups_on(device), pairs.partner_on(device)
        self.keep = settings.depth + settings.skip_first + slack
        self.crowds = Crowds(self.count, max(COPIES, self.keep), device)
        self.room = max(LEAST_ROOM, ROOM * self.keep)
        self.threshold = torch.zeros(self.count, device=device)
        self.threshold[~torch.from_numpy(pairs.valid[targets]).to(device)] = float("inf")
        self.overflowed = torch.zeros(self.count, dtype=torch.bool, device=device)
        nothing = torch.empty(0, dtype=torch.int32, device=device)
        self.parts = [Flat(nothing, nothing, nothing.float(), nothing.float())]
        self._room = Room()
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
        """Keep candidates of one block, by upper bounds; the first block also makes the first thresholds.

        Args:
            part: positions of the S targets among the T.
            columns: (C,) int64 rows of the candidates; a target never meets the same candidate twice.
            own: (S,) int64 place of each target itself among the columns; outside 0 .. C - 1 where it is not there.
            upper: image and text, (S, C) in the precision of the bulk pass; used up.
            gap: image and text, (S,) float32, see `bounds.as_targets`.
            worst: image and text, largest rounding error of the candidates.
        """
        inside = (own >= 0) & (own < len(columns))
        at = torch.arange(len(own), device=self.device), own.clamp(0, len(columns) - 1)
        for values in upper:  # `where` needs no list of those inside, for which a GPU would have to wait
            values[at] = torch.where(inside, ABSENT, values[at])
        first = not self._started and len(columns) >= self.keep
        room = self._room.like(upper[0], upper[0].shape)
        score = upper_scores(self.settings, self.ulp, upper[0], upper[1], room, first)
        if first:
            same = self._grouped(self.rows[part, None], columns[None, :])
            how = self.settings, self.ulp, self.keep, self.proven
            least = first_threshold(*how, score, upper, gap, worst, same)
            self.threshold[part] = torch.maximum(self.threshold[part], least)
        stored = 1 - (1 if self.proven else 3) * self.ulp  # a product is rounded once more where it is stored
        target, column = above(score, self.threshold[part] * (stored / self._margin(self.ulp)))
        if self.single and len(target) <= 8 * self.keep * (part.stop - part.start):
            none = torch.empty(0, device=self.device)  # thresholds will not move, so bounds are not needed
            self.parts.append(Flat((target + part.start).int(), columns[column].int(), none, none))
            return
        place = target * score.shape[1] + column  # one index is faster than two
        bounds = [x.reshape(-1)[place].float() for x in upper]
        flat = self._bounded(part, columns, target, column, bounds, gap, worst, self.ulp)
        many = 8 * self.keep * (part.stop - part.start)
        if self.single or len(target) > many or self.device.type == "cpu":
            flat = self._without_surplus(flat)
            if len(flat.target) > many:  # targets with too many leave before they fill the memory
                flat = self._without_crowds(flat)
        if self.single:
            flat = Flat(flat.target, flat.column, flat.lower[:0], flat.upper[:0])
        self.parts.append(flat)

    def limits(self, part: slice, gap: list[torch.Tensor], worst: list[float]) -> Limits:
        """The limits of a fused pass; near-duplicates and copies are limited for targets that have met a crowd."""
        low_image, low_text = (max(low, 0.0) * (1 - 2 * ULP_FLOAT32) for low in self.settings.lows)
        add = [  # what the products lack where they leave out the columns of the errors
            (1 + g) * w * (1 + 1e-6) + g if lacks_errors(width) else torch.zeros_like(g)
            for g, w, width in zip(gap, worst, self.widths, strict=True)
        ]
        full, never = self.crowds.full[part], torch.full((), float("inf"), device=self.device)
        near: list[torch.Tensor] = []
        for g, w, high in zip(gap, worst, self.settings.highs, strict=True):
            lost = 2 * (g + w * 1.01)  # by which a bound may exceed its cosine; a kernel may round it to float16
            near.append(torch.where(full, high + lost + 2.0**-9, never) if high < 1 else never.expand(len(g)))
        values = torch.stack([self.threshold[part] / self._margin(ULP_FLOAT32), *add, *near])
        groups = self.groups_of(self.rows[part]).masked_fill_(~full, -1) if self.crowds.known else None
        return Limits(values, groups, Rules(SCORES.index(self.settings.score), low_image, low_text))

    def groups_of(self, rows: torch.Tensor) -> torch.Tensor:
        """(2, R) int32 group numbers of images and texts, -1 for none."""
        none = torch.full_like(rows, -1)
        return torch.stack([none if g is None else g[rows] for g in self.groups]).int()

    def expect_crowds(self, part: slice, targets: torch.Tensor) -> None:
        """From now on, keep no more copies for the targets in a (S,) mask."""
        every = torch.zeros_like(self.overflowed)
        every[part] = targets
        self.crowds.expect(every)

    def take(
        self, part: slice, columns: torch.Tensor, gap: list[torch.Tensor], worst: list[float], found: Marked
    ) -> None:
        """Keep what a fused pass found in a block; arguments as for `add`."""
        if found.over is not None:
            over = torch.zeros_like(self.overflowed)
            over[part] = found.over
            self._overflow(over)
        bounds = [found.image, found.text]
        flat = self._bounded(part, columns, found.target, found.column, bounds, gap, worst, ULP_FLOAT32)
        self.parts.append(flat)  # `tighten` drops the surplus, so that nothing waits for the device here

    def tighten(self, seen: float) -> None:
        """Raise the thresholds and drop candidates below them; called after each block with the candidates seen so far.

        It acts once per doubling of the candidates seen, because it costs as much as a block and a threshold changes
        little in between.
        """
        self._started = True
        if seen < self._next:
            return
        self._next = 2 * seen
        if self.device.type != "cpu":
            self.parts, self._ordered = [self._without_surplus(Flat.join(self.parts))], False
        flat = self._sorted()
        table = flat.table(flat.lower, self.count, 0.0)
        if table.shape[1] >= self.keep:
            self.threshold = torch.maximum(self.threshold, kth_largest(table, self.keep))
        flat = flat.pick(flat.upper >= self.threshold[flat.target])
        self.parts, self._ordered = [self._without_crowds(flat)], True
        self.crowds.look()

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """(T, C) int64 rows of the kept candidates, -1 padded, and positions of overflowed targets, after all blocks.

        An overflowed target had too many candidates; its rows are empty.
        """
        if self.single:
            self.parts = [self._without_crowds(Flat.join(self.parts))]
        else:
            self.tighten(float("inf"))
        flat = self._sorted()
        table = flat.table(flat.column.long(), self.count, -1)
        return table.cpu().numpy(), np.flatnonzero(self.overflowed.cpu().numpy())

    def _margin(self, ulp: float) -> float:
        """Factor by which the product of two bounds may exceed the float32 product of the rounded bounds.

        It is wider where bounds are not proven, because it then also covers the rounding of the rows.
        """
        return (1 + ulp) ** (2 if self.proven else 4) * (1 + 4 * ULP_FLOAT32)

    def _bounded(
        self,
        part: slice,
        columns: torch.Tensor,
        target: torch.Tensor,
        column: torch.Tensor,
        upper: list[torch.Tensor],
        gap: list[torch.Tensor],
        worst: list[float],
        ulp: float,
    ) -> Flat:
        """Candidates of a block with the bounds of their scores; the upper bound of a surplus copy is -1."""
        rows = columns[column]
        same = self._grouped(self.rows[part][target], rows)
        low = [lower_bound(x, g[target], w, ulp) for x, g, w in zip(upper, gap, worst, strict=True)]
        arm = self.settings.score
        score = upper[0] * upper[1] if arm == "joint" else upper[0 if arm == "image" else 1]
        best, place = score * self._margin(ulp), (target + part.start).int()
        rules = [x > high for x, high in zip(low, self.settings.highs, strict=True) if high < 1]
        rules += [] if same is None else [same]
        if rules:
            best = best.masked_fill_(self.crowds.surplus(place, torch.stack(rules).any(dim=0)), -1.0)
        lower = lower_scores(self.settings, ulp, self.proven, upper, low if self.proven else upper, same)
        out = upper[0] <= 0 if arm == "joint" else None  # two negative bounds have a positive product
        if self.partner is not None:
            out = ~self.partner[rows] if out is None else out.logical_or_(~self.partner[rows])
        if out is not None:
            best, lower = best.masked_fill_(out, -1.0), lower.masked_fill(out, 0.0)
        return Flat(place, rows.int(), lower, best)

    def _grouped(self, target: torch.Tensor, column: torch.Tensor) -> torch.Tensor | None:
        """Whether rows `target` and `column` (broadcastable) share a group; None if no groups are known."""
        known = [g for g in self.groups if g is not None]
        same = [(g[target] == g[column]) & (g[target] >= 0) for g in known]
        if not same:
            return None
        together = cast(list[torch.Tensor], torch.broadcast_tensors(*same))
        return torch.stack(together).any(dim=0)

    @staticmethod
    def _without_surplus(flat: Flat) -> Flat:
        surplus = flat.upper < 0
        return flat.pick(~surplus) if surplus.any() else flat

    def _overflow(self, over: torch.Tensor) -> None:
        self.overflowed |= over
        self.threshold[over] = float("inf")

    def _without_crowds(self, flat: Flat) -> Flat:
        """The candidates of targets that have room for theirs; the other targets overflow."""
        counts = torch.bincount(flat.target, minlength=self.count)
        if int(counts.max()) <= self.room:
            return flat
        self._overflow(counts > self.room)
        return flat.pick(~self.overflowed[flat.target])

    def _sorted(self) -> Flat:
        """All kept candidates in the order of their targets."""
        flat = Flat.join(self.parts)
        return flat if self._ordered and len(self.parts) == 1 else flat.pick(order_of(flat.target, self.count))
