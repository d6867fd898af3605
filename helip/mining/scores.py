# pyright: strict, reportUnknownMemberType=false
"""Bounds of scores from bounds of cosines. Legend: S targets, C candidates, F pairs in a flat list, K partners kept."""

import torch

from helip.mining.bounds import excess
from helip.mining.scan import drop_below, kth_largest, nearly_kth_largest, zero_above
from helip.mining.settings import SearchSettings


def upper_scores(
    settings: SearchSettings, ulp: float, image: torch.Tensor, text: torch.Tensor, out: torch.Tensor, signs: bool
) -> torch.Tensor:
    """(S, C) upper bound of the score; 0 or less where a similarity is surely not positive or below its minimum.

    Args:
        settings: rules.
        ulp: relative rounding of the bounds.
        image, text: (S, C) upper bounds of the cosines; used up.
        out: (S, C), for the product.
        signs: False leaves the product of two negative bounds in place. The caller then tests the few pairs above a
            threshold, which is cheaper than another pass over all pairs.
    """
    least = [max(low, 0.0) * (1 - 2 * ulp) for low in settings.lows]
    if settings.score != "joint":
        values, low = (image, least[0]) if settings.score == "image" else (text, least[1])
        drop_below(values, low)
        return values
    if signs or least[0] > 0:
        drop_below(image, least[0])
    if least[1] > 0:  # else a negative text bound makes the product negative, which is enough
        drop_below(text, least[1])
    return torch.mul(image, text, out=out)


def first_threshold(
    settings: SearchSettings,
    ulp: float,
    keep: int,
    proven: bool,
    score: torch.Tensor,
    upper: list[torch.Tensor],
    gap: list[torch.Tensor],
    worst: list[float],
    same: torch.Tensor | None,
) -> torch.Tensor:
    """(S,) lower bound of the K-th best score, computed from upper bounds, which is cheaper than from lower bounds.

    Let P = x y be the product of two upper bounds and g the gap of each to its lower bound. The product of the lower
    bounds is at least P - g_y x - g_x y. For 0 <= x, y <= 1 this is least where x or y is 1, because the sum is convex
    in x. Three roundings lie between P and its stored value.
    """
    allowed = score.clone()
    gaps = [excess(g, w, ulp) for g, w in zip(gap, worst, strict=True)]
    for values, g, low, high in zip(upper, gaps, settings.lows, settings.highs, strict=True):
        if high < 1:
            zero_above(allowed, values, high / (1 + 2 * ulp))
        if low > 0:
            zero_above(allowed, -values, -(low + float(g.max())) / (1 - 2 * ulp))
    if same is not None:
        allowed.masked_fill_(same, 0)
    if not proven:  # the order of these scores decides, so their rank must be exact
        return kth_largest(allowed, keep).float()
    best = nearly_kth_largest(allowed, keep).float()
    if settings.score == "joint":
        lost = torch.maximum(gaps[0] + gaps[1] * best, gaps[1] + gaps[0] * best)
    else:
        lost = gaps[0 if settings.score == "image" else 1]
    return (best * (1 - 4 * ulp) - 1.05 * lost).clamp_(min=0.0)


def lower_scores(
    settings: SearchSettings,
    ulp: float,
    proven: bool,
    upper: list[torch.Tensor],
    low: list[torch.Tensor],
    same: torch.Tensor | None,
) -> torch.Tensor:
    """(F,) lower bound of the score from bounds of both cosines; 0 where a rule may forbid the pair."""
    low = [x.clamp(min=0.0) for x in low] if proven else low
    arm = settings.score
    value = low[0] * low[1] if arm == "joint" else low[0 if arm == "image" else 1]
    for m in (0, 1):
        if settings.highs[m] < 1:
            value = value * (upper[m] * (1 + 2 * ulp) <= settings.highs[m])
        value = value * (low[m] >= settings.lows[m])
    if same is not None:
        value = value * ~same
    return value * (1 - 1e-6)
