"""Continued training from a request: stream, module, callbacks, and the table of before and after."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    RichProgressBar,
)
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy

from helip.artifacts.shards import ShardIndex
from helip.data.datamodule import HelipDataModule
from helip.data.loading import describe_loader, loader_prefetch
from helip.data.plans.contract import BatchPlan, units_per_step
from helip.data.reader import SampleReader, random_read_rate
from helip.data.settings import StreamSettings
from helip.data.transforms import draft_size
from helip.data.units import UnitReader
from helip.errors import HelipError
from helip.evaluation.callback import EvaluationCallback
from helip.evaluation.embed import Evaluator
from helip.models.clip import Clip
from helip.models.towers import prepare_towers
from helip.ranks import TrainerSpec
from helip.training.anchor import Anchor
from helip.training.checkpoint_callback import Checkpoints
from helip.training.losses import HelipLoss
from helip.training.metrics_log import MetricsLog
from helip.training.module import HelipModule
from helip.training.monitor import SpeedMonitor
from helip.training.nan_guard import NanGuard
from helip.training.optim import OptimSettings
from helip.training.resume_guard import recorded
from helip.training.run_files import CHECKPOINTS, run_of, set_aside
from helip.training.settings import PairSettings, TrainSettings
from helip.typed import Leaf


def build_stream(
    index: ShardIndex, clip: Clip, plan: BatchPlan, stream: StreamSettings, seed: int, steps: int
) -> HelipDataModule:
    """The data module of a training."""
    read = UnitReader(
        SampleReader(index, stream.captions),
        plan,
        clip.train_transform,
        clip.tokenize,
        seed,
        stream.on_error,
        draft=draft_size(clip.train_transform) if stream.draft else 0,
        steps=steps,
    )
    prefetch = loader_prefetch(stream.prefetch, stream.workers, batch_bytes(read, clip, stream.batch_size))
    return HelipDataModule(read, steps, stream.workers, prefetch)


def batch_bytes(read: UnitReader, clip: Clip, pairs: int) -> int:
    """Size of so many pairs as the workers hand them over; their tokens are next to nothing."""
    model: Any = clip.model
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return pairs * 3 * height * width * (4 if read.normalize is None else 1)


def describe_length(
    settings: TrainSettings, stream: StreamSettings, data: HelipDataModule, clip: Clip, rows: int, world_size: int
) -> str:
    """Steps, pairs, visits of a target, and the loader. Raises HelipError when the ranks cannot share a batch."""
    plan = data.read.plan
    targets = units_per_step(plan, world_size)
    visits = data.steps * targets / plan.length
    length = f"{settings.epochs} epochs of {rows:,} pairs" if settings.max_steps is None else "as asked"
    notes = ""
    if targets > plan.length:
        there = f"{plan.length:,}"
        notes = f"\nnote: data.batch_size={stream.batch_size} holds more targets than there are ({there}): "
        notes += "rows repeat, and are masked in the loss"
    return (
        f"max_steps={data.steps:,} ({length}): {stream.batch_size} pairs a step, of which {targets} are targets; "
        f"each of {plan.length:,} targets is visited {visits:.2f} times\n"
        + describe_loader(data.workers, data.prefetch, batch_bytes(data.read, clip, stream.batch_size))
        + notes
    )


def logit_scale(clip: Clip) -> float:
    """The factor of the logits, exp of the parameter."""
    scale: Any = clip.model.logit_scale
    return float(scale.detach().exp())


# Callbacks of Lightning's that would break what a training promises -> why.
REFUSED = {
    GradientAccumulationScheduler: "it averages losses of small batches: raise data.batch_size and train.accum_freq",
    BatchSizeFinder: "it trains on batches of other sizes: set data.batch_size",
    LearningRateFinder: "it trains before the training: sweep over optim.lr",
}


def own_callbacks(leaves: Mapping[str, Leaf[pl.Callback]]) -> list[pl.Callback]:
    """The user's callbacks, made. Raises HelipError for one that is none, or would break what a training promises."""
    made = {name: leaf() for name, leaf in leaves.items()}
    for name, one in made.items():
        if not isinstance(one, pl.Callback):
            raise HelipError(f"callbacks.{name} makes a {type(one).__name__}, which is no callback of Lightning")
        if why := next((why for kind, why in REFUSED.items() if isinstance(one, kind)), None):
            raise HelipError(f"callbacks.{name} is refused: {why}")
    return list(made.values())


class StepBar(RichProgressBar):
    """Counts the steps of the whole training, in a resumed run as well."""

    @property
    def total_train_batches(self) -> int:
        return self.trainer.max_steps

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"


def fit(
    module: HelipModule,
    data: HelipDataModule,
    trainer_spec: TrainerSpec,
    settings: TrainSettings,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger],
    folder: Path,
) -> pl.Trainer:
    """Train to data.steps, from the checkpoint file that settings.resume names if any; the last step is checkpointed.

    Raises:
        HelipError: the training has diverged, or cannot go on from this file.
    """
    checkpoints = Checkpoints(
        folder / CHECKPOINTS, settings.checkpoint_every, settings.checkpoint_minutes, settings.keep_checkpoints
    )
    resume = Path(settings.resume) if settings.resume else None
    asked: dict[str, Any] = {"enable_model_summary": False} | trainer_spec.training_arguments()
    trainer = pl.Trainer(
        **asked,
        max_steps=data.steps,
        max_epochs=-1 if resume else 1,  # the loader is as long as the training; a finished one may go on for longer
        logger=list(loggers),
        callbacks=[
            NanGuard(folder / CHECKPOINTS),
            SpeedMonitor(read_rate(data)),
            *([StepBar()] if asked.get("enable_progress_bar", True) else []),
            *callbacks,
            checkpoints,
        ],
        log_every_n_steps=max(1, min(settings.log_every, data.steps)),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("gradient_as_bucket_view", True)  # one copy of the gradients, not two
    if trainer.is_global_zero:
        take_over(folder, resume, loggers)
    try:
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    except pickle.UnpicklingError as error:
        raise HelipError(f"{resume} cannot be read without running code from it: no checkpoint of HELIP") from error
    if trainer.is_global_zero and trainer_spec.profiler is not None:
        profiler: Any = trainer.profiler  # type: ignore[attr-defined]
        print(profiler.summary(), flush=True)  # Lightning logs it, where nobody is told to look
    return trainer


def take_over(folder: Path, resume: Path | None, loggers: Sequence[Logger]) -> None:
    """Make a run folder that an earlier training used this training's own, on rank 0."""
    aside = set_aside(folder, resume)
    if aside is not None:
        print(f"{folder} held files of another training, or of later steps: they are in {aside.name}/ now", flush=True)
    if resume is not None:
        for log in loggers:
            if isinstance(log, MetricsLog):
                log.go_on(recorded(resume)[1], run_of(resume))


def read_rate(data: HelipDataModule) -> float | None:
    """Random reads per second that the workers of a rank can do together; None where the plan reads row after row."""
    plan = data.read.plan
    if not plan.scattered:
        return None
    return random_read_rate(data.read.reader, np.flatnonzero(plan.eligible)) * max(1, data.workers)


def make_loggers(csv: bool, folder: Path, tensorboard: bool = False) -> list[Logger]:
    """metrics.csv in the run folder, and Lightning's own log for TensorBoard in its tensorboard/.

    Raises:
        HelipError: tensorboard is asked for and not installed.
    """
    loggers: list[Logger] = [MetricsLog(folder)] if csv else []
    if tensorboard:
        try:
            loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
        except ModuleNotFoundError as error:
            raise HelipError("logger=tensorboard needs tensorboard: pip install 'helip[tensorboard]'") from error
    return loggers


def evaluation_callback(
    evaluators: Sequence[Evaluator],
    make_embed: Any,
    settings: TrainSettings,
    steps_per_epoch: int,
    start: dict[str, float],
    weights: Callable[[pl.LightningModule], AbstractContextManager[None]] = nullcontext,
    max_drop: float = 0.05,
) -> EvaluationCallback:
    """Evaluators after each epoch, every so many steps, or at the end, inside `weights` (an average, for instance)."""
    every = {"epoch": steps_per_epoch, "end": 0}.get(str(settings.evaluate), settings.evaluate)
    return EvaluationCallback(evaluators, make_embed, int(every), start, max_drop, weights)


def build_module(
    clip: Clip,
    pairs: PairSettings,
    optim: OptimSettings,
    steps: int,
    settings: TrainSettings | None = None,
    fixed: Mapping[str, Any] | None = None,
    constants: Mapping[str, float] | None = None,
) -> HelipModule:
    """The module, its towers prepared.

    Args:
        steps: of the whole schedule.
        settings: of the training; None: CLIP's loss on unlocked towers.
        fixed: settings that a resumed run must share.
        constants: numbers that are logged beside each step's.
    """
    loss = settings.loss() if settings else HelipLoss(margin=pairs.margin(), mask_duplicates=pairs.mask_duplicates)
    anchor = None
    if settings:
        anchor = make_anchor(clip, settings.anchor)
        prepare_towers(clip.model, settings.towers)
    return HelipModule(
        clip.model,
        loss,
        optim,
        steps,
        clip.description,
        fixed,
        settings.allow_change if settings else False,
        settings.accum_freq if settings else 1,
        anchor,
        constants,
    )


def make_anchor(clip: Clip, weight: float | None) -> Anchor | None:
    """The frozen copy of a model as it is now; None without a weight. Raises HelipError for random weights."""
    if weight is None:
        return None
    if clip.spec.random:
        raise HelipError(f"train.anchor={weight} would hold the model to random weights: name model.pretrained")
    return Anchor(clip.model, weight)
