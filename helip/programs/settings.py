"""The settings of training as the configuration names them (conf/helip, conf/train.yaml, conf/data)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from helip.data.plans.contract import PlanSettings
from helip.data.reader import LEFT_OUT, CaptionRule
from helip.data.schedules import Schedule
from helip.errors import HelipError
from helip.evaluation.embed import Evaluator
from helip.evaluation.suite import build_evaluators
from helip.models.towers import TowerSettings
from helip.training.losses import HelipLoss
from helip.training.margins import Margin
from helip.typed import Leaf

ADVICE_SHARE = 0.1  # of a training's pairs, that its pre-flight may cost


@dataclass(frozen=True)
class PairSettings:
    """How hard pairs enter the batch and the loss; `score` is joint, image, text, random or off."""

    score: str
    topk: int
    p: int
    outliers: str
    min_partners: int
    margin_weight: float
    symmetric: bool
    mask_duplicates: bool
    schedule: Leaf[Schedule]
    margin: Leaf[Margin]
    plan: Leaf[PlanSettings]
    cluster: int = 8
    placebo: bool = False

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        for name, value, allowed in (
            ("score", self.score, ("joint", "image", "text", "random", "off")),
            ("outliers", self.outliers, ("drop", "random", "keep")),
        ):
            if value not in allowed:
                raise HelipError(f"helip.{name}={value} is not one of {', '.join(allowed)}")
        for name in ("topk", "p", "min_partners"):
            if getattr(self, name) < 1:
                raise HelipError(f"helip.{name}={getattr(self, name)} must be at least 1")
        if self.p > self.topk:
            raise HelipError(f"helip.p={self.p} partners cannot be drawn from helip.topk={self.topk} hard pairs")

    @property
    def mines(self) -> bool:
        return self.score in ("joint", "image", "text")


@dataclass(frozen=True)
class TrainSettings:
    """How long, how often, from where; steps are optimiser steps."""

    epochs: int
    max_steps: int | None
    resume: str | None
    checkpoint_every: int
    keep_checkpoints: int
    log_every: int
    evaluate: str | int
    loss: Leaf[HelipLoss]
    checkpoint_minutes: float | None = None
    allow_change: bool = False
    lock_image: int | None = None
    lock_text: int | None = None
    grad_checkpointing: bool = False
    compile: bool = False
    ema: float | None = None
    best: str | None = None
    skip_finished: bool | str = "auto"
    accum_freq: int = 1
    logit_scale: float | None = None
    anchor: float | None = None
    advise: bool | str = "auto"

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        if self.advise not in (True, False, "auto"):
            raise HelipError(f"train.advise={self.advise} is not one of auto, true, false")
        if self.anchor is not None and not self.anchor > 0:
            raise HelipError(f"train.anchor={self.anchor} must be null, or a weight above 0")
        if self.evaluate not in ("epoch", "end") and not (isinstance(self.evaluate, int) and self.evaluate > 0):
            raise HelipError(f"train.evaluate={self.evaluate} is not one of epoch, end, nor a number of steps from 1")
        if self.skip_finished not in (True, False, "auto"):
            raise HelipError(f"train.skip_finished={self.skip_finished} is not one of auto, true, false")
        for name in ("epochs", "max_steps", "checkpoint_every", "log_every", "accum_freq"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise HelipError(f"train.{name}={getattr(self, name)} must be at least 1")
        if self.keep_checkpoints < -1 or self.keep_checkpoints == 0:
            raise HelipError(
                f"train.keep_checkpoints={self.keep_checkpoints} must be a number, or -1 for all, and not 0"
            )

    @property
    def towers(self) -> TowerSettings:
        return TowerSettings(self.lock_image, self.lock_text, self.grad_checkpointing, self.compile, self.logit_scale)

    def steps(self, rows: int, batch_size: int) -> int:
        """Steps of the training: one epoch lets as many pairs enter the loss as the training part has rows."""
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil(self.epochs * rows / batch_size))

    def advice_budget(self, pairs: int) -> float:
        """Pairs that the pre-flight may embed before a training on so many; none where that has begun already."""
        if self.resume is not None or self.advise is False:
            return 0
        return math.inf if self.advise is True else ADVICE_SHARE * pairs


@dataclass(frozen=True)
class StreamSettings:
    """Of the loaders (conf/data); `workers` are processes per rank, `prefetch` batches that each keeps ready."""

    batch_size: int
    window: int
    caption: str | dict[str, float]
    on_error: str
    workers: int
    embed_batch_size: int
    draft: bool = True
    prefetch: int | str = "auto"
    drop_captions: list[str] = field(default_factory=lambda: list(LEFT_OUT))

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        if self.prefetch != "auto" and not (isinstance(self.prefetch, int) and self.prefetch >= 1):
            raise HelipError(f"data.prefetch={self.prefetch} must be auto or a number of batches from 1")
        if self.on_error not in ("skip", "fail"):
            raise HelipError(f"data.on_error={self.on_error} is not one of skip, fail")
        for name in ("window", "embed_batch_size"):
            if getattr(self, name) < 1:
                raise HelipError(f"data.{name}={getattr(self, name)} must be at least 1")

    @property
    def captions(self) -> CaptionRule:
        return CaptionRule(self.caption, tuple(self.drop_captions))


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, on batches of how many rows (conf/evaluation)."""

    evaluators: list[dict[str, Any]]
    sets: dict[str, dict[str, Any]]
    batch_size: int
    imagenet: str | None
    max_drop: float

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        if self.batch_size < 1:
            raise HelipError(f"evaluation.batch_size={self.batch_size} must be at least 1")
        if not 0 <= self.max_drop <= 1:
            raise HelipError(f"evaluation.max_drop={self.max_drop} must be a share from 0 to 1")

    def build(self, instantiate: Callable[..., Evaluator] | None = None) -> tuple[Evaluator, ...]:
        """The evaluators; `instantiate` makes those with `_target_`. Raises HelipError as `build_evaluators`."""
        return build_evaluators(self.evaluators, self.imagenet, self.sets, instantiate)
