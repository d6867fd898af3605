"""What mine, train and evaluate share: rank, console, run folder, evaluators."""

import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from helip.artifacts.datasets import open_index
from helip.artifacts.shards import ShardIndex
from helip.data.captions import look_at_captions
from helip.evaluation.clip_embed import ClipEmbed, Drive, predict_drive
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
    """Rank, console, run folder, and the processes started."""

    def __init__(self, program: str, settings: SharedSettings, folder: Path) -> None:
        self.settings, self.stream, self.record = settings, settings.stream, plain(settings)
        self.said: set[str] = set()
        for scheme, storage in settings.paths.storages.items():
            register(scheme, storage())
        keep_blocks(Path(settings.paths.cache), settings.paths.cache_bytes)
        self.trainer = predict_trainer(settings.trainer)
        self.folder = Path(self.agreed(str(folder)))  # under torchrun and srun each rank names one by its own clock
        self.rank = global_rank()
        width = None if sys.stdout.isatty() else 140  # a file has room for the names of metrics
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
        """What conf/evaluation and the dataset ask for."""
        found = self.settings.evaluation.build()
        if self.settings.dataset.path is not None:
            check_parts(found, self.settings.dataset.parts)
        return found

    def embed(self, clip: Clip, index: ShardIndex | None, drive: Drive, device: torch.device) -> ClipEmbed:
        """The model as evaluators see it."""
        return ClipEmbed(
            clip,
            self.settings.dataset,
            index,
            drive,
            self.folder / "scratch",
            device,
            self.rank,
            self.stream.captions,
            self.settings.evaluation.batch_size,
            self.stream.workers,
            self.trainer.precision_plugin.predict_step_context,
        )

    def measure(self, clip: Clip, index: ShardIndex | None) -> Found:
        """All metrics of a model with their samples, by predict loops."""
        embed = self.embed(clip, index, predict_drive(self.trainer), self.trainer.strategy.root_device)
        return measure_all(self.evaluators, embed, self.say_once)

    def evaluate(self, clip: Clip, index: ShardIndex | None) -> dict[str, float]:
        """All metrics of a model."""
        return values_of(self.measure(clip, index))

    def say_once(self, line: str) -> None:
        """Print a line once, although it may concern several checkpoints."""
        if line not in self.said:
            self.said.add(line)
            self.console.print(line)
