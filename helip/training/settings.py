"""The settings of training (conf/helip, and `train` and `export` of conf/train.yaml)."""

import math
from dataclasses import dataclass

from helip.data.plans.contract import PlanSettings
from helip.data.schedules import Schedule
from helip.errors import HelipError
from helip.models.towers import TowerSettings
from helip.training.losses import HelipLoss
from helip.training.margins import Margin
from helip.typed import Leaf, operation, result, schedule

ADVICE_SHARE = 0.1  # share of a training's pairs that the advice before it may embed


@dataclass(frozen=True)
class PairSettings:
    """The method (conf/helip): the rules of hard pairs, and their use in the batch and the loss.

    `score` is joint, image, text, random or off. Mining reads it and the four settings after `p`.
    """

    score: str = result(choices=("joint", "image", "text", "random", "off"))
    topk: int = result(least=1)
    p: int = result(least=1)
    near_duplicate: float | list[float] = result()
    min_similarity: float | list[float] = result()
    skip_first: int = result()
    exclude_copies: bool = result()
    outliers: str = result(choices=("drop", "random", "keep"))
    min_partners: int = result(least=1)
    margin_weight: float = result()
    symmetric: bool = result()
    mask_duplicates: bool = result()
    schedule: Leaf[Schedule] = result()
    margin: Leaf[Margin] = result()
    plan: Leaf[PlanSettings] = result()
    distinct: bool = result(default=True)
    cluster: int = result(default=8)
    placebo: bool = result(default=False)

    def __post_init__(self) -> None:
        """Raises HelipError for more partners than hard pairs."""
        if self.p > self.topk:
            raise HelipError(f"helip.p={self.p} partners cannot be drawn from helip.topk={self.topk} hard pairs")

    @property
    def mines(self) -> bool:
        return self.score in ("joint", "image", "text")


@dataclass(frozen=True)
class TrainSettings:
    """The settings of a training (`train`); steps are optimiser steps."""

    epochs: int = schedule(least=1)
    max_steps: int | None = schedule(least=1)
    loss: Leaf[HelipLoss] = result()
    ema: float | None = result()
    lock_image: int | None = result(firm="the moments are those of the unlocked weights")
    lock_text: int | None = result(firm="the moments are those of the unlocked weights")
    logit_scale: float | None = result(firm="a temperature that is trained has moments, and a fixed one has none")
    anchor: float | None = result()
    best: str | None = result(after=True)
    evaluate: str | int = result(after=True)
    resume: str | None = operation()
    skip_finished: bool | str = operation(choices=("auto", True, False))
    advise: bool | str = operation(choices=("auto", True, False))
    allow_change: bool = operation()
    checkpoint_every: int = operation(least=1)
    checkpoint_minutes: float | None = operation()
    keep_checkpoints: int = operation()
    log_every: int = operation(least=1)
    grad_checkpointing: bool = operation()
    compile: bool = operation()
    accum_freq: int = operation(least=1)

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        if self.anchor is not None and not self.anchor > 0:
            raise HelipError(f"train.anchor={self.anchor} must be null, or a weight above 0")
        if self.evaluate not in ("epoch", "end") and not (isinstance(self.evaluate, int) and self.evaluate > 0):
            raise HelipError(f"train.evaluate={self.evaluate} must be epoch, end, or a number of steps from 1")
        if self.checkpoint_minutes is not None and not self.checkpoint_minutes > 0:
            raise HelipError(f"train.checkpoint_minutes={self.checkpoint_minutes} must be null, or above 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise HelipError(f"train.ema={self.ema} must be null, or a decay between 0 and 1 such as 0.999")
        if self.keep_checkpoints < -1 or self.keep_checkpoints == 0:
            raise HelipError(f"train.keep_checkpoints={self.keep_checkpoints} must be at least 1, or -1 for all")

    @property
    def towers(self) -> TowerSettings:
        return TowerSettings(self.lock_image, self.lock_text, self.grad_checkpointing, self.compile, self.logit_scale)

    def steps(self, rows: int, batch_size: int) -> int:
        """Steps of the training; in one epoch as many pairs enter the loss as the training part has rows."""
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil(self.epochs * rows / batch_size))

    def advice_budget(self, pairs: int) -> float:
        """Number of pairs that the advice may embed before a training on `pairs`; 0 for a resumed training."""
        if self.resume is not None or self.advise is False:
            return 0
        return math.inf if self.advise is True else ADVICE_SHARE * pairs


@dataclass(frozen=True)
class ExportSettings:
    """The settings of final.pt: `alpha` is the share of the trained weights, or auto."""

    alpha: float | str = result(after=True)

    def __post_init__(self) -> None:
        """Raises HelipError outside 0 to 1."""
        if self.alpha != "auto" and (isinstance(self.alpha, str) or not 0 <= self.alpha <= 1):
            raise HelipError(f"export.alpha={self.alpha} must be auto, or a number from 0 (the start) to 1 (the end)")

    @property
    def share(self) -> float | None:
        """None for auto."""
        return None if isinstance(self.alpha, str) else float(self.alpha)
