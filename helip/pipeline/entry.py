"""The three programs, from a plain resolved configuration to files in the run folder."""

import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from rich.console import Console

from helip.artifacts.atomic import digest, write_json
from helip.artifacts.shards import ShardIndex
from helip.data.datamodule import targets_per_step
from helip.errors import HelipError
from helip.evaluation.best import FILE as BEST
from helip.evaluation.best import BestCheckpoint, check_choice
from helip.evaluation.embed import Evaluator, Found
from helip.evaluation.results import results
from helip.evaluation.samples import values_of
from helip.evaluation.suite import measure_all
from helip.pipeline import build
from helip.pipeline.arrays import Precomputed
from helip.pipeline.build import Common, Config, Instantiate
from helip.pipeline.compare import (
    benchmark_names,
    best_column,
    checkpoint_model,
    column_name,
    print_metrics,
    write_comparison,
)
from helip.pipeline.dashboards import Dashboard, start_dashboard
from helip.pipeline.dataset import open_index, shard_weights
from helip.pipeline.evaluation import ClipEmbed, Drive, inside_fit_drive, predict_drive
from helip.pipeline.jobs import job_settings
from helip.pipeline.mining import Mined, Rows, ensure_hard_pairs, reuse_hard_pairs, training_rows
from helip.pipeline.models import Clip, ModelSpec, create_clip
from helip.pipeline.report import print_mining
from helip.pipeline.resume import AUTO, auto_checkpoint, find_checkpoint
from helip.pipeline.run import provenance, write_run
from helip.pipeline.runtime import global_rank, predict_trainer
from helip.pipeline.settings import TrainSettings
from helip.pipeline.sweep import BEFORE, RESULTS, finished_run, note_job
from helip.pipeline.training import (
    build_module,
    build_stream,
    choose_partners,
    describe_length,
    evaluation_callback,
    fit,
    make_loggers,
)
from helip.pipeline.typed import typed
from helip.pipeline.verify import VerifySettings, origin, verify
from helip.training.averaging import Ema
from helip.training.checkpoints import export_clip, interpolate, read_checkpoint
from helip.training.module import HelipModule
from helip.training.seen import SeenRows


class Session:
    """What the programs begin with: rank, console, run folder, requests, and the processes started."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.said: set[str] = set()
        self.common: Common = build.common(config)
        self.trainer = predict_trainer(self.common.trainer)
        self.rank = global_rank()
        width = None if sys.stdout.isatty() else 140  # a file has room for the names of metrics
        self.console = Console(quiet=self.rank != 0, highlight=False, markup=False, soft_wrap=True, width=width)
        if self.rank == 0:
            write_run(folder, config)
        pl.seed_everything(config["seed"], verbose=False)

    def open_index(self) -> ShardIndex:
        return open_index(self.common.dataset, self.common.artifacts, self.common.stream.on_error, self.console)

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
            self.common.stream.caption,
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

    def resumed(self, settings: TrainSettings) -> TrainSettings:
        """With the checkpoint that train.resume means; a mistyped path is an error now, not after the mining."""
        warn = partial(self.console.print, "[yellow]warning:[/]")
        if settings.resume not in (None, AUTO):
            return replace(settings, resume=str(find_checkpoint(Path(settings.resume), warn)))
        wanted = settings.resume == AUTO or settings.skip_finished is True
        found = self.agreed(auto_checkpoint(self.folder, self.config, warn) if self.rank == 0 and wanted else None)
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
        return self.common.evaluation.build()

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


def mine(config: Config, folder: Path, instantiate: Instantiate) -> None:
    """Shards (or arrays) -> embeddings -> hard pairs -> tables and contact sheet."""
    session = Session(config, folder)
    request = build.mining_request(config, instantiate)
    if session.common.dataset.path is None:
        assert isinstance(request.embedding, Precomputed)
        rows = _bare_rows(request.embedding)
    else:
        rows = training_rows(session.open_index(), session.common.dataset)
    if config["verify"]:
        what = typed(VerifySettings, "verify", {n: config[f"verify_{n}"] for n in ("rows", "checkpoint")})
        if session.rank == 0:
            verify(request, rows, what, config["seed"], session.console)
        return
    board = session.dashboard("mine")
    if config["reuse"]:
        mined = reuse_hard_pairs(request, rows, Path(config["reuse"]), session.trainer, session.console)
    else:
        mined = ensure_hard_pairs(request, rows, session.trainer, session.console)
    if session.rank == 0:
        report = print_mining(request, rows, mined, session.common.stream.caption, folder, session.console)
        board.mined(mined, report)


def _bare_rows(arrays: Precomputed) -> Rows:
    image, _ = arrays.load()
    return Rows(np.ones(len(image), bool), digest(arrays.identity, 64), None)


def train(config: Config, folder: Path, instantiate: Instantiate) -> None:
    """Ensure the hard pairs, evaluate, fit, evaluate again; the run folder holds all of it."""
    session = Session(config, folder)
    if session.common.dataset.path is None:
        raise HelipError("dataset=none has no images to train on: name a dataset")
    pairs, settings = build.pair_settings(config), build.train_settings(config)
    stream, evaluators, alpha = session.common.stream, session.evaluators, build.export_alpha(config)
    if settings.best:
        check_choice(settings.best, evaluators)
    index = session.open_index()
    if session.finished(settings, index.fingerprint):
        return
    settings = session.resumed(settings)
    rows = training_rows(index, session.common.dataset)
    mined: Mined | None = None
    if pairs.mines:
        request = build.mining_request(config, instantiate)
        mined = ensure_hard_pairs(request, rows, session.trainer, session.console, config["mine"]["auto_limit"])
        session.console.print(f"hard pairs: {mined.folder}")
    partners = choose_partners(pairs, mined.index if mined else None, rows.wanted, config["seed"], session.console)
    clip = create_clip(session.common.model)
    steps = settings.steps(rows.usable, stream.batch_size)
    weights = shard_weights(index, session.common.dataset)
    data = build_stream(index, clip, partners, rows.wanted, stream, pairs, config["seed"], steps, weights)
    session.console.print(describe_length(settings, stream, data, clip, rows.usable, session.trainer.world_size))
    before = session.evaluate(clip, index)
    start = {name: value.clone() for name, value in clip.model.state_dict().items()} if alpha < 1 else None
    fixed = build.fixed_settings(config, index.fingerprint) | {"hard_pairs": origin(mined.index) if mined else None}
    module = build_module(clip, pairs, build.optim_settings(config), steps, settings, fixed)
    ema = [Ema(settings.ema)] if settings.ema is not None else []

    def make_embed(trainer: pl.Trainer, _: pl.LightningModule) -> ClipEmbed:
        return session.embed(clip, index, inside_fit_drive(trainer), trainer.strategy.root_device)

    per_epoch = max(1, math.ceil(rows.usable / stream.batch_size))
    averaged = ema[0].averaged if ema else nullcontext
    max_drop = session.common.evaluation.max_drop
    evaluation = evaluation_callback(evaluators, make_embed, settings, per_epoch, before, averaged, max_drop)
    best = [BestCheckpoint(folder / "checkpoints", settings.best)] if settings.best else []
    board = session.dashboard("train")
    board.uses(mined)
    board.starts_from(before)
    loggers = [*make_loggers(config["logger"]["csv"], folder), *board.loggers()] if session.rank == 0 else []
    seen = SeenRows(len(rows.wanted))
    callbacks = [*ema, seen, evaluation, *best]
    pl.seed_everything(config["seed"], verbose=False)  # what came before depends on what was found on the disk
    trainer = fit(module, data, session.common.trainer, settings, callbacks, loggers, folder)
    columns = {"before": before, **best_column(best, evaluation.history), "after": evaluation.last}
    if start is not None:
        clip.model.load_state_dict(interpolate(start, clip.model.state_dict(), alpha))
        columns[f"alpha {alpha:g}"] = session.evaluate(clip, index)
    if session.rank == 0:
        targets = targets_per_step(stream.batch_size, partners)
        about = {
            **job_settings(config, index.fingerprint),
            "steps": trainer.global_step,
            "pairs": trainer.global_step * stream.batch_size,
            "targets": trainer.global_step * targets,
            "seen": seen.counts(),
            "usable_rows": rows.usable,
            "hard_pairs": str(mined.folder) if mined else None,
        }
        _finish(session, module, trainer, columns, about)
    board.trained(columns)


def _finish(
    session: Session,
    module: HelipModule,
    trainer: pl.Trainer,
    columns: dict[str, dict[str, float]],
    about: dict[str, Any],
) -> None:
    """final.pt (the last of the columns), best.pt, results.json, and the table."""
    folder, common = session.folder, session.common
    final = export_clip(module, folder / "final.pt")
    best = folder / "checkpoints" / BEST
    if best.is_file():
        export_clip(read_checkpoint(best), folder / "best.pt")
    print_metrics(columns, folder, session.console)
    last = folder / "checkpoints" / f"step-{trainer.global_step:06d}.ckpt"
    pretrained = {name: str(final if name == list(columns)[-1] else last) for name in columns}
    pretrained["before"] = str(common.model.pretrained)
    pretrained |= {name: str(folder / "best.pt") for name in columns if name.startswith("best ")}
    content = results(
        columns,
        dataset=common.dataset.name,
        model=common.model.name,
        pretrained=pretrained,
        about=about | provenance(),
        names=benchmark_names(session.evaluators),
    )
    write_json(folder / "results.json", content)
    session.console.print(f"run folder: {folder} (final.pt, results.json, metrics.csv, checkpoints)")


def evaluate(config: Config, folder: Path, instantiate: Instantiate) -> None:
    """Metrics of one or several checkpoints, or of ${model}, side by side."""
    session = Session(config, folder)
    board = session.dashboard("evaluate")
    index = session.open_index() if session.common.dataset.path is not None else None
    asked = config["checkpoint"]
    models = [
        checkpoint_model(Path(path), session.common.model)
        for path in ([asked] if isinstance(asked, str) else asked or [])
    ]
    measured: dict[str, Found] = {}
    specs: dict[str, ModelSpec] = {}
    for spec in models or [session.common.model]:
        name = column_name(str(spec.pretrained), specs)
        specs[name], measured[name] = spec, session.measure(create_clip(spec), index)
    if session.rank == 0:
        write_comparison(measured, specs, session.evaluators, session.common.dataset.name, folder, session.console)
        board.evaluated({name: values_of(found) for name, found in measured.items()})


STAGES: dict[str, Callable[[Config, Path, Instantiate], None]] = {"mine": mine, "train": train, "evaluate": evaluate}
