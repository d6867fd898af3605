"""Lightning trainers, ranks and locks, for all programs on one or many processes."""

import inspect
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console
from torch.utils.data import DataLoader

from helip.errors import HelipError, nearest
from helip.typed import Leaf, marked, operation, result

PATIENCE = timedelta(days=7)  # waiting time of ranks for other jobs, or for the work of rank 0
SRUN = "; start as many tasks by srun as trainer.devices={} says, or one without srun"


@dataclass(frozen=True)
class TrainerSpec:
    """Devices and precision; precision `auto` is bf16-mixed on a GPU that supports it, otherwise 32-true."""

    accelerator: str = operation(default="auto")
    devices: int | str | list[int] = operation(default="auto")
    num_nodes: int = operation(default=1)
    strategy: str = operation(default="auto")
    precision: str = result(default="auto")
    profiler: Leaf[Any] | Any = operation(default=None, inner=True)
    benchmark: bool | None = operation(default=None, inner=True)
    detect_anomaly: bool | None = operation(default=None, inner=True)
    enable_progress_bar: bool | None = operation(default=None, inner=True)
    enable_model_summary: bool | None = operation(default=None, inner=True)
    more: dict[str, Leaf[Any] | Any] = result(default_factory=dict, rest=True)

    def __post_init__(self) -> None:
        """Raises HelipError for an argument that pl.Trainer lacks, or that is in REFUSED."""
        known = inspect.signature(pl.Trainer).parameters
        for name in self.more:
            if name in REFUSED:
                raise HelipError(f"trainer.{name} is refused: {REFUSED[name]}")
            if name not in known:
                raise HelipError(f"there is no setting trainer.{name}{nearest(name, known)}")

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of pl.Trainer. Raises HelipError for float16 on the CPU, and for FSDP."""
        if "fsdp" in self.strategy:
            raise HelipError(
                f"trainer.strategy={self.strategy} is not supported: torch's FSDP cannot shard a scalar such as CLIP's"
                " temperature, and evaluation, averages and export need whole weights; set trainer.strategy=ddp, and"
                " train.grad_checkpointing=true and train.accum_freq to save memory"
            )
        precision = self.resolved_precision
        if precision.startswith("16") and (self.accelerator == "cpu" or not torch.cuda.is_available()):
            raise HelipError(
                f"trainer.precision={precision} needs a GPU: on the CPU set bf16-mixed, which needs no scaling of the"
                " loss, or 32-true"
            )
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "num_nodes": self.num_nodes,
            "strategy": self.strategy,
            "precision": precision,
            "plugins": [LightningEnvironment()] if self.num_nodes == 1 and inside_allocation() else None,
        }

    def training_arguments(self) -> dict[str, Any]:
        """`arguments`, and all other given arguments of pl.Trainer, with leaves made."""
        own = marked(TrainerSpec, "inner")
        given = {name: value for name in own if (value := getattr(self, name)) is not None} | self.more
        return self.arguments() | {n: value() if isinstance(value, Leaf) else value for n, value in given.items()}

    @property
    def resolved_precision(self) -> str:
        """The precision of forward passes on this machine."""
        if self.precision != "auto":
            return self.precision
        on_gpu = self.accelerator != "cpu" and torch.cuda.is_available()
        native = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "32-true"


def inside_allocation() -> bool:
    """Whether this process runs in a SLURM allocation, and is not one of several tasks of srun.

    Lightning treats any process with SLURM_NTASKS as a task of srun, and waits for other tasks or refuses their number.
    """
    return "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect() and srun_tasks() == 1


def srun_tasks() -> int:
    """Number of tasks of this srun; 1 without srun."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


SHORTER = (
    "a training has the fixed number of steps that its learning rate and its data are planned for: train.max_steps"
)
NO_LOOP = "no validation loop of Lightning runs here: evaluators see each row once, when train.evaluate says"
# Arguments of Lightning's Trainer that are refused -> the reason, and what to set instead.
REFUSED = {
    "accumulate_grad_batches": "it averages the losses of small batches, which is no large contrastive batch: raise "
    "data.batch_size, and train.accum_freq if memory does not hold it",
    "reload_dataloaders_every_n_epochs": "the data are one stream whose position follows from the step, so that a run "
    "resumes exactly",
    "use_distributed_sampler": "each rank reads its own slice of the one global order",
    "inference_mode": "evaluation and embedding choose it",
    "callbacks": "+callbacks.NAME={_target_: ...} adds one",
    "logger": "logger=csv or logger=wandb",
    "log_every_n_steps": "train.log_every",
    "enable_checkpointing": "train.checkpoint_every and train.keep_checkpoints",
    "default_root_dir": "hydra.run.dir, the run folder",
    "barebones": "it leaves out checkpoints and logs",
    **dict.fromkeys(
        ("max_steps", "min_steps", "max_epochs", "min_epochs", "max_time", "limit_train_batches", "overfit_batches",
         "fast_dev_run"), SHORTER,
    ),
    **dict.fromkeys(
        ("limit_val_batches", "limit_test_batches", "limit_predict_batches", "val_check_interval",
         "check_val_every_n_epoch", "num_sanity_val_steps"), NO_LOOP,
    ),
}  # fmt: skip


class _Launch(pl.LightningModule):
    """An empty module: a predict loop with it starts the processes and their group."""

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        return None


class LeaveSigterm(pl.Callback):
    """Lets SIGTERM end a predict loop at once; Lightning would run the loop to its end.

    Nothing is lost, because the same command resumes from the files on disk.
    """

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's handler, which it has just set and removes at the end."""
        signal.signal(signal.SIGTERM, self._before)


def predict_trainer(spec: TrainerSpec, progress: bool = True) -> pl.Trainer:
    """A trainer for predict loops over each rank's share; starts the processes.

    Raises:
        HelipError: this machine lacks the hardware of the settings.
    """
    quiet_lightning()
    try:
        trainer = pl.Trainer(
            **spec.arguments(),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
            use_distributed_sampler=False,
            callbacks=[LeaveSigterm(), *([RichProgressBar()] if progress else [])],
            inference_mode=True,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and "SLURM" not in reason:
            raise
        cure = SRUN.format(spec.devices) if "SLURM" in reason else ""
        if spec.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            cure = "; trainer=cpu runs without a GPU, trainer=auto takes what there is"
        raise HelipError(f"this machine cannot run the trainer settings: {reason}{cure}") from error
    if srun_tasks() > trainer.world_size and not TorchElasticEnvironment.detect():  # each task would do all of the work
        raise HelipError(
            f"srun started {srun_tasks()} tasks for {trainer.world_size} devices{SRUN.format(spec.devices)}"
        )
    if trainer.world_size > 1 and not torch.distributed.is_initialized():
        start = pl.Trainer(**spec.arguments(), logger=False, enable_checkpointing=False, enable_progress_bar=False)
        start.predict(_Launch(), DataLoader(range(trainer.world_size)), return_predictions=False)  # type: ignore[arg-type]
        barrier()  # creates its group while all ranks are present
    return trainer


def barrier() -> None:
    """Wait for all ranks, up to PATIENCE; does nothing with one process.

    Uses a separate gloo group, so that the time limit of the strategy still ends a training that hangs.

    Raises:
        HelipError: a rank failed, or did not arrive in time.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        patient = torch.distributed.BarrierOptions()
        patient.timeout = PATIENCE
        try:
            _waiting_group(torch.distributed.group.WORLD).barrier(patient).wait()
        except RuntimeError as error:
            if "imed out" in str(error):
                raise HelipError(
                    f"another process of this run did not arrive in {PATIENCE}: it hangs, or waits for another job; "
                    "repeat the command"
                ) from error
            raise HelipError("another process of this run has failed: its own message says why") from error


@cache
def _waiting_group(world: Any) -> Any:
    """A gloo group of all ranks of `world`, the default group."""
    return torch.distributed.new_group(backend="gloo")


def global_rank() -> int:
    """The rank of this process: of the process group, or from the launcher before there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


@contextmanager
def artefact_lock(folder: Path, console: Console) -> Iterator[None]:
    """Hold the lock of an artefact on rank 0 while all ranks work on it; a second job prints a line and waits."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    if global_rank() == 0:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            console.print(f"another job makes {folder}: waiting for it")
            lock.acquire()
    barrier()
    try:
        yield
    finally:
        lock.release()


def quiet_lightning() -> None:
    """Hide warnings of Lightning that do not apply."""
    logging.getLogger().setLevel(logging.WARNING)  # open_clip logs every step of loading a model
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (
        "does not have many workers",
        "predict returned None",
        "treespec, LeafSpec",
        "The dirpath has changed",  # a resumed run has a new folder
        "your dataloader is not resumable",  # it is: its state is the global step
        "Experiment logs directory",  # the run folder contains more than the log
        "IterableDataset` has `__len__`",  # each worker reads its own steps
        "Consider setting `use_distributed_sampler",
    ):
        warnings.filterwarnings("ignore", f".*{text}")


def is_logged(trainer: pl.Trainer, step: int) -> bool:
    """Whether Lightning logs the step of this number, from 1. Equal on all ranks: collectives may depend on it."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0
