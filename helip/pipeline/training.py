"""Continued training from a request: partners, stream, module, callbacks, and the table of before and after."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from rich.console import Console

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.datamodule import HelipDataModule, targets_per_step
from helip.data.order import TargetOrder
from helip.data.partners import MinedPartners, Partners, RandomPartners
from helip.data.reader import SampleReader
from helip.data.units import UnitReader
from helip.errors import HelipError
from helip.evaluation.callback import EvaluationCallback
from helip.evaluation.suite import Evaluator
from helip.pipeline.models import Clip
from helip.pipeline.runtime import TrainerSpec
from helip.training.losses import HelipLoss
from helip.training.module import HelipModule
from helip.training.monitor import SpeedMonitor
from helip.training.optim import OptimSettings


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
    evaluate: str

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        if self.evaluate not in ("epoch", "end"):
            raise HelipError(f"train.evaluate={self.evaluate} is not one of epoch, end")
        for name in ("epochs", "max_steps", "checkpoint_every", "log_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise HelipError(f"train.{name}={getattr(self, name)} must be at least 1")
        if self.keep_checkpoints < -1:
            raise HelipError(f"train.keep_checkpoints={self.keep_checkpoints} must be a number, or -1 for all")

    def steps(self, rows: int, batch_size: int) -> int:
        """Steps of the training: one epoch lets as many pairs enter the loss as the training part has rows."""
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil(self.epochs * rows / batch_size))


@dataclass(frozen=True)
class StreamSettings:
    """Of the loaders (conf/data); `workers` are processes per rank."""

    batch_size: int
    window: int
    caption: str
    on_error: str
    workers: int
    embed_batch_size: int

    def __post_init__(self) -> None:
        """Raises HelipError for a value out of range."""
        if self.on_error not in ("skip", "fail"):
            raise HelipError(f"data.on_error={self.on_error} is not one of skip, fail")
        for name in ("window", "embed_batch_size"):
            if getattr(self, name) < 1:
                raise HelipError(f"data.{name}={getattr(self, name)} must be at least 1")


def choose_partners(
    pairs: PairSettings, hard: HardPairIndex | None, valid: np.ndarray, seed: int, console: Console
) -> Partners | None:
    """Where partners come from; prints how many targets have none.

    Args:
        valid: (N,) bool, usable rows of the training part.
    """
    if pairs.score == "off":
        return None
    if pairs.score == "random":
        return RandomPartners(valid, pairs.p, seed)
    assert hard is not None
    rows = hard.topk(pairs.topk).rows
    partners = MinedPartners(rows, valid, pairs.p, seed, pairs.outliers, pairs.min_partners)
    count, share = int(partners.outlier.sum()), partners.outlier.sum() / max(1, valid.sum())
    fate = {
        "drop": "left out as targets",
        "random": "given a random partner",
        "keep": "their partner slot takes another target",
    }
    console.print(
        f"outliers: {count:,} targets ({share:.1%}) have fewer than {pairs.min_partners} hard pairs: "
        f"{fate[pairs.outliers]}"
    )
    return partners


def build_stream(
    index: ShardIndex,
    clip: Clip,
    partners: Partners | None,
    valid: np.ndarray,
    stream: StreamSettings,
    pairs: PairSettings,
    seed: int,
    steps: int,
) -> HelipDataModule:
    """The data module of a training."""
    order = TargetOrder(partners.eligible if partners else valid, index.starts, seed, stream.window)
    read = UnitReader(
        SampleReader(index, stream.caption),
        order,
        partners,
        clip.train_transform,
        clip.tokenize,
        seed,
        stream.on_error,
        keep_outliers=pairs.outliers == "keep",
    )
    return HelipDataModule(read, stream.batch_size, steps, stream.workers)


def describe_length(
    settings: TrainSettings, stream: StreamSettings, data: HelipDataModule, rows: int, world_size: int
) -> str:
    """Steps, pairs, and how often a target is visited. Raises HelipError when the ranks cannot share a batch."""
    targets = targets_per_step(stream.batch_size, data.read.partners, world_size)
    visits = data.steps * targets / data.read.order.length
    length = f"{settings.epochs} epochs of {rows:,} pairs" if settings.max_steps is None else "as asked"
    return (
        f"max_steps={data.steps:,} ({length}): {stream.batch_size} pairs a step, of which {targets} are targets; "
        f"each of {data.read.order.length:,} targets is visited {visits:.2f} times"
    )


def fit(
    module: HelipModule,
    data: HelipDataModule,
    trainer_spec: TrainerSpec,
    settings: TrainSettings,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger],
    folder: Path,
) -> pl.Trainer:
    """Train to data.steps, from the checkpoint that settings.resume names if any; the last step is checkpointed."""
    checkpoints = ModelCheckpoint(
        folder / "checkpoints",
        filename="step-{step:06d}",
        auto_insert_metric_name=False,
        monitor="step",
        mode="max",
        save_top_k=settings.keep_checkpoints,
        every_n_train_steps=settings.checkpoint_every,
        save_on_train_epoch_end=False,
    )
    trainer = pl.Trainer(
        **trainer_spec.arguments(),
        max_steps=data.steps,
        max_epochs=1,  # the loader is as long as the training
        logger=list(loggers),
        callbacks=[SpeedMonitor(), checkpoints, RichProgressBar(), *callbacks],
        log_every_n_steps=max(1, min(settings.log_every, data.steps)),
        use_distributed_sampler=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    resume = find_checkpoint(Path(settings.resume)) if settings.resume else None
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / "checkpoints" / f"step-{trainer.global_step:06d}.ckpt")
    return trainer


def find_checkpoint(path: Path) -> Path:
    """A checkpoint file, or the newest of a run folder. Raises HelipError when there is none."""
    if path.is_file():
        return path
    found = sorted((path / "checkpoints").glob("step-*.ckpt"))
    if not found:
        raise HelipError(f"{path} is neither a checkpoint file nor a run folder with checkpoints/step-*.ckpt")
    return found[-1]


def make_loggers(config: dict[str, Any], folder: Path, description: dict[str, Any]) -> list[Logger]:
    """metrics.csv in the run folder, and W&B where it is asked for."""
    loggers: list[Logger] = []
    if config["csv"]:
        loggers.append(CSVLogger(folder, name="", version=""))
    if config["wandb"]:
        loggers.append(WandbLogger(save_dir=folder, config=description, **config["wandb"]))
    return loggers


def evaluation_callback(
    evaluators: Sequence[Evaluator],
    make_embed: Any,
    settings: TrainSettings,
    steps_per_epoch: int,
    start: dict[str, float],
) -> EvaluationCallback:
    """Evaluators after each epoch, or after the last step alone."""
    every = steps_per_epoch if settings.evaluate == "epoch" else 0
    return EvaluationCallback(evaluators, make_embed, every, start)


def build_module(clip: Clip, pairs: PairSettings, optim: OptimSettings, steps: int) -> HelipModule:
    loss = HelipLoss(pairs.margin_weight, pairs.symmetric, pairs.mask_duplicates)
    return HelipModule(clip.model, loss, optim, steps, clip.description)
