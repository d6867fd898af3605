"""The parts that mine, train and evaluate share: ranks, console, run folder, evaluators."""

import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from helip.artifacts.datasets import open_index
from helip.artifacts.shards import ShardIndex
from helip.data.captions import look_at_captions
from helip.evaluation.clip_embed import ClipEmbed, inside_fit_drive, predict_drive
from helip.evaluation.embed import Evaluator, Found
from helip.evaluation.samples import values_of
from helip.evaluation.suite import check_parts, measure_all
from helip.models.clip import Clip
from helip.programs.settings import SharedSettings
from helip.ranks import global_rank, predict_trainer
from helip.storage.remote import keep_blocks
from helip.storage.schemes import register
from helip.tracking.dashboards import Dashboard, start_dashboard
from helip.tracking.log import KeptConsole
from helip.tracking.run import write_run
from helip.typed import flat, kept, plain


class Session:
    """Starts the processes, and has their rank, console and run folder."""

    def __init__(self, program: str, settings: SharedSettings, folder: Path) -> None:
        self.settings, self.stream, self.record = settings, settings.stream, plain(settings)
        self.said: set[str] = set()
        for scheme, storage in settings.paths.storages.items():
            register(scheme, storage())
        keep_blocks(Path(settings.paths.cache), settings.paths.cache_bytes)
        self.trainer = predict_trainer(settings.trainer)
        self.folder = Path(self.agreed(str(folder)))  # under torchrun and srun each rank has a name by its own clock
        self.rank = global_rank()
        width = None if sys.stdout.isatty() else 140  # in a file, the names of metrics fit
        log = self.folder / f"{program}.log" if self.rank == 0 else None
        look = {"highlight": False, "markup": False, "soft_wrap": True}
        self.console = KeptConsole(log, quiet=self.rank != 0, width=width, **look)
        if self.rank == 0:
            write_run(self.folder, self.record, list(flat(kept(type(settings), self.record, ("operation",)))))
        pl.seed_everything(settings.seed, verbose=False)

    def agreed(self, decision: Any) -> Any:
        """The decision of rank 0, on all ranks."""
        return self.trainer.strategy.broadcast(decision) if self.trainer.world_size > 1 else decision

    def open_index(self) -> ShardIndex:
        index = open_index(self.settings.dataset, self.settings.artifacts, self.stream.on_error, self.console)
        for sentence in look_at_captions(index, self.stream.captions):
            self.console.print(f"warning: {sentence}")
        return index

    def dashboard(self, job_type: str) -> Dashboard:
        """The W&B run, on rank 0 and where it is asked for."""
        if self.rank != 0:
            return Dashboard()
        logger = self.settings.logger
        return start_dashboard(logger.wandb, logger.group, job_type, self.folder, self.record, self.console)

    @cached_property
    def evaluators(self) -> tuple[Evaluator, ...]:
        """The evaluators of conf/evaluation and of the dataset."""
        found = self.settings.evaluation.build()
        if self.settings.dataset.path is not None:
            check_parts(found, self.settings.dataset.parts)
        return found

    def embed(self, clip: Clip, index: ShardIndex | None, training: pl.Trainer | None = None) -> ClipEmbed:
        """The model as evaluators see it: by predict loops, or by plain loops inside the fit of `training`."""
        return ClipEmbed(
            clip,
            self.settings.dataset,
            index,
            inside_fit_drive(training) if training else predict_drive(self.trainer),
            self.folder / "scratch",
            (training or self.trainer).strategy.root_device,
            self.rank,
            self.stream.captions,
            self.settings.evaluation.batch_size,
            self.stream.workers,
            self.trainer.precision_plugin.predict_step_context,
        )

    def measure(self, clip: Clip, index: ShardIndex | None) -> Found:
        """All metrics of a model with their samples."""
        return measure_all(self.evaluators, self.embed(clip, index), self.say_once)

    def evaluate(self, clip: Clip, index: ShardIndex | None) -> dict[str, float]:
        """All metrics of a model."""
        return values_of(self.measure(clip, index))

    def say_once(self, line: str) -> None:
        """Print a line unless it has been printed, because it may concern several checkpoints."""
        if line not in self.said:
            self.said.add(line)
            self.console.print(line)
