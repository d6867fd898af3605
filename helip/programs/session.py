"""What the three programs begin with."""

import sys
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from helip.artifacts.datasets import open_index
from helip.artifacts.shards import ShardIndex
from helip.data.captions import look_at_captions
from helip.errors import HelipError
from helip.evaluation.clip_embed import ClipEmbed, Drive, predict_drive
from helip.evaluation.embed import Evaluator, Found
from helip.evaluation.samples import values_of
from helip.evaluation.suite import check_parts, measure_all
from helip.models.clip import Clip
from helip.programs import build
from helip.programs.build import Common, Config, Instantiate
from helip.programs.multirun import BEFORE, RESULTS, finished_run, note_job
from helip.programs.settings import TrainSettings
from helip.ranks import global_rank, predict_trainer
from helip.storage.remote import keep_blocks
from helip.tracking.dashboards import Dashboard, start_dashboard
from helip.tracking.jobs import job_settings
from helip.tracking.log import KeptConsole
from helip.tracking.run import write_run
from helip.training.resume import AUTO, auto_checkpoint, find_checkpoint
from helip.training.resume_guard import changes, recorded, refusal


class Session:
    """Rank, console, run folder, requests, and the processes started."""

    def __init__(self, program: str, config: Config, folder: Path, instantiate: Instantiate) -> None:
        if not isinstance(config["seed"], int) or not 0 <= config["seed"] < 1 << 32:
            raise HelipError(f"seed={config['seed']} must be a whole number from 0 to {(1 << 32) - 1}")
        self.config, self.instantiate = config, instantiate
        self.said: set[str] = set()
        self.common: Common = build.common(config)
        keep_blocks(Path(config["paths"]["cache"]), config["paths"]["cache_bytes"])
        self.trainer = predict_trainer(self.common.trainer)
        self.folder = Path(self.agreed(str(folder)))  # torchrun and srun: each rank has named one by its own clock
        self.rank = global_rank()
        width = None if sys.stdout.isatty() else 140  # a file has room for the names of metrics
        log = self.folder / f"{program}.log" if self.rank == 0 else None
        plain = {"highlight": False, "markup": False, "soft_wrap": True}
        self.console = KeptConsole(log, quiet=self.rank != 0, width=width, **plain)
        if self.rank == 0:
            write_run(self.folder, config)
        pl.seed_everything(config["seed"], verbose=False)

    def open_index(self) -> ShardIndex:
        index = open_index(self.common.dataset, self.common.artifacts, self.common.stream.on_error, self.console)
        for sentence in look_at_captions(index, self.common.stream.captions):
            self.console.print(f"warning: {sentence}")
        return index

    def embed(self, clip: Clip, index: ShardIndex | None, drive: Drive, device: torch.device) -> ClipEmbed:
        """The model as evaluators see it."""
        return ClipEmbed(
            clip,
            self.common.dataset,
            index,
            drive,
            self.folder / "scratch",
            device,
            self.rank,
            self.common.stream.captions,
            self.common.evaluation.batch_size,
            self.common.stream.workers,
        )

    def dashboard(self, job_type: str) -> Dashboard:
        """The W&B run, on rank 0 and where it is asked for."""
        if self.rank != 0:
            return Dashboard()
        asked = build.wandb_settings(self.config)
        group = self.config["logger"]["group"]
        return start_dashboard(asked, group, job_type, self.folder, self.config, self.console)

    def agreed(self, decision: Any) -> Any:
        """What rank 0 decided, on all ranks."""
        return self.trainer.strategy.broadcast(decision) if self.trainer.world_size > 1 else decision

    def resumed(self, settings: TrainSettings, fixed: Config) -> TrainSettings:
        """With the checkpoint that train.resume means.

        Args:
            settings: of the training.
            fixed: what the checkpoint must have recorded, as far as it is known before the mining.

        Raises:
            HelipError: now, not after hours of mining: a mistyped path, or a checkpoint of other settings.
        """
        warn = partial(self.console.print, "warning:")
        if settings.resume not in (None, AUTO):
            path = find_checkpoint(Path(settings.resume), warn)
            if (why := refusal(changes(recorded(path)[0], fixed), settings.allow_change)) is not None:
                raise HelipError(f"train.resume: {why}")
            return replace(settings, resume=str(path))
        wanted = settings.resume == AUTO or settings.skip_finished is True
        found = None
        if self.rank == 0 and wanted:
            found = auto_checkpoint(self.folder, self.config, warn, fixed, settings.allow_change)
        found = self.agreed(found)
        if wanted:
            self.console.print(f"resume: {found or 'no unfinished run has these settings, from the start'}")
        return replace(settings, resume=str(found) if found else None)

    def finished(self, settings: TrainSettings, fingerprint: str) -> bool:
        """Whether a run with these settings has finished and need not be repeated; says where it lies."""
        done = None
        if self.rank == 0 and settings.skip_finished is True:
            own = job_settings(self.config, fingerprint)["settings"]
            done = finished_run(own, self.folder, Path(self.config["paths"]["runs"]))
        done = self.agreed(done)
        if done is not None:
            self.console.print(f"skipped: finished before in {done} (train.skip_finished=false repeats it)")
        if self.rank == 0 and done is not None:
            note_job(self.folder, status=BEFORE, run=str(done))
        elif self.rank == 0:
            (self.folder / RESULTS).unlink(missing_ok=True)  # of other settings: this run takes the folder over
        return done is not None

    @cached_property
    def evaluators(self) -> tuple[Evaluator, ...]:
        """What conf/evaluation and the dataset ask for."""
        found = self.common.evaluation.build(self.instantiate)
        if self.common.dataset.path is not None:
            check_parts(found, self.common.dataset.parts)
        return found

    def measure(self, clip: Clip, index: ShardIndex | None) -> Found:
        """All metrics of a model with their samples, by predict loops."""
        embed = self.embed(clip, index, predict_drive(self.trainer), self.trainer.strategy.root_device)
        return measure_all(self.evaluators, embed, self.say_once)

    def evaluate(self, clip: Clip, index: ShardIndex | None) -> dict[str, float]:
        """All metrics of a model."""
        return values_of(self.measure(clip, index))

    def say_once(self, line: str) -> None:
        """What is skipped for one checkpoint is skipped for all."""
        if line not in self.said:
            self.said.add(line)
            self.console.print(line)
