"""Continued training: the stream of batches, the module, the user's callbacks, and the fit."""

import pickle
from collections.abc import Mapping, Sequence
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
from helip.models.clip import Clip
from helip.models.towers import prepare_towers
from helip.ranks import TrainerSpec
from helip.training.anchor import Anchor
from helip.training.checkpoint_callback import Checkpoints
from helip.training.metrics_log import MetricsLog
from helip.training.module import HelipModule
from helip.training.monitor import SpeedMonitor
from helip.training.nan_guard import NanGuard
from helip.training.optim import OptimSettings
from helip.training.resume_guard import recorded
from helip.training.run_files import CHECKPOINTS, run_of, set_aside
from helip.training.settings import TrainSettings
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
    """Bytes of the images of `pairs` pairs between worker and main process; tokens take few bytes."""
    model: Any = clip.model
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return pairs * 3 * height * width * (4 if read.normalize is None else 1)


def describe_length(
    settings: TrainSettings, stream: StreamSettings, data: HelipDataModule, clip: Clip, rows: int, world_size: int
) -> str:
    """Steps, pairs, visits of a target, and the loader. Raises HelipError if the ranks cannot share a batch."""
    plan = data.read.plan
    targets = units_per_step(plan, world_size)
    visits = data.steps * targets / plan.length
    length = f"{settings.epochs} epochs of {rows:,} pairs" if settings.max_steps is None else "as asked"
    note = (
        f"\nnote: data.batch_size={stream.batch_size} holds more targets than there are ({plan.length:,}): rows repeat,"
        " and are masked in the loss"
    )
    return (
        f"max_steps={data.steps:,} ({length}): {stream.batch_size} pairs a step, of which {targets} are targets; "
        f"each of {plan.length:,} targets is visited {visits:.2f} times\n"
        + describe_loader(data.workers, data.prefetch, batch_bytes(data.read, clip, stream.batch_size))
        + (note if targets > plan.length else "")
    )


# Callbacks of Lightning that would change the batches or the schedule -> why they are refused.
REFUSED = {
    GradientAccumulationScheduler: "it averages losses of small batches: raise data.batch_size and train.accum_freq",
    BatchSizeFinder: "it trains on batches of other sizes: set data.batch_size",
    LearningRateFinder: "it trains before the training: sweep over optim.lr",
}


def own_callbacks(leaves: Mapping[str, Leaf[pl.Callback]]) -> list[pl.Callback]:
    """Make the user's callbacks. Raises HelipError for another kind of object, and for those in REFUSED."""
    made = {name: leaf() for name, leaf in leaves.items()}
    for name, one in made.items():
        if not isinstance(one, pl.Callback):
            raise HelipError(f"callbacks.{name} makes a {type(one).__name__}, which is no callback of Lightning")
        if why := next((why for kind, why in REFUSED.items() if isinstance(one, kind)), None):
            raise HelipError(f"callbacks.{name} is refused: {why}")
    return list(made.values())


class StepBar(RichProgressBar):
    """Counts the steps of the whole training, also in a resumed run."""

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
        max_epochs=-1 if resume else 1,  # the loader has the length of the training, which a resumed run may extend
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
        print(profiler.summary(), flush=True)  # Lightning only logs it
    return trainer


def take_over(folder: Path, resume: Path | None, loggers: Sequence[Logger]) -> None:
    """Move the files of an earlier training in the run folder aside, and continue the log of a resumed run; rank 0."""
    aside = set_aside(folder, resume)
    if aside is not None:
        print(f"{folder} held files of another training, or of later steps: they are in {aside.name}/ now", flush=True)
    if resume is not None:
        for log in loggers:
            if isinstance(log, MetricsLog):
                log.go_on(recorded(resume)[1], run_of(resume))


def read_rate(data: HelipDataModule) -> float | None:
    """Random reads per second of all workers of a rank; None if the plan reads row after row."""
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


def build_module(
    clip: Clip,
    settings: TrainSettings,
    optim: OptimSettings,
    steps: int,
    fixed: Mapping[str, Any] | None = None,
    constants: Mapping[str, float] | None = None,
) -> HelipModule:
    """The module, with prepared towers; arguments as those of HelipModule."""
    anchor = Anchor(clip.model, settings.anchor) if settings.anchor is not None else None  # of the model as it is now
    prepare_towers(clip.model, settings.towers)
    return HelipModule(
        clip.model,
        settings.loss(),
        optim,
        steps,
        clip.description,
        fixed,
        settings.allow_change,
        settings.accum_freq,
        anchor,
        constants,
    )
