"""python train.py: continued training with hard pairs, evaluated before and after."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from helip.artifacts.atomic import write_json
from helip.artifacts.datasets import shard_weights
from helip.data.plans.contract import PlanData, units_per_step
from helip.errors import HelipError
from helip.evaluation.best import FILE as BEST
from helip.evaluation.best import BestCheckpoint, check_choice, check_metric
from helip.evaluation.clip_embed import ClipEmbed, inside_fit_drive, predict_drive
from helip.evaluation.results import results
from helip.mining.request import Mined, training_rows
from helip.models.checkpoints import export_clip, interpolate, read_checkpoint
from helip.models.clip import create_clip
from helip.programs import build
from helip.programs.advice import print_advice
from helip.programs.build import Config, Instantiate
from helip.programs.compare import (
    benchmark_names,
    best_column,
    print_metrics,
)
from helip.programs.hard_pairs import ensure_hard_pairs
from helip.programs.keeping import Start, best_alpha, choosers
from helip.programs.session import Session
from helip.programs.training import (
    build_module,
    build_stream,
    describe_length,
    evaluation_callback,
    fit,
    make_loggers,
)
from helip.programs.verify import origin
from helip.tracking.jobs import job_settings
from helip.tracking.log import StepLog
from helip.tracking.run import provenance
from helip.training.averaging import Ema
from helip.training.module import HelipModule
from helip.training.resume_guard import fixed_record
from helip.training.seen import SeenRows

TOY, TOY_DATA = "emoji_tiny", "emoji"


def train(config: Config, folder: Path, instantiate: Instantiate) -> None:
    """Ensure the hard pairs, evaluate, fit, evaluate again; the run folder holds all of it."""
    session = Session("train", config, folder, instantiate)
    folder = session.folder
    if session.common.dataset.path is None:
        raise HelipError("dataset=none has no images to train on: name a dataset")
    pairs, settings = build.pair_settings(config, instantiate), build.train_settings(config, instantiate)
    settings.loss()  # refuses a margin now, not after hours of mining
    stream, evaluators, alpha = session.common.stream, session.evaluators, build.export_alpha(config)
    if settings.best:
        check_choice(settings.best, evaluators)
    by = choosers(evaluators, session.common.dataset) if alpha is None else []
    how = pairs.plan()
    how.check(stream.batch_size)
    index = session.open_index()
    if session.finished(settings, index.fingerprint):
        return
    rows = training_rows(index, session.common.dataset)
    steps, optim = settings.steps(rows.usable, stream.batch_size), build.optim_settings(config)
    fixed = build.fixed_settings(config, index.fingerprint)
    settings = session.resumed(settings, fixed_record(optim, steps, fixed))
    mined: Mined | None = None
    if how.mines:
        request = build.mining_request(config, instantiate)
        mined = ensure_hard_pairs(request, rows, session.trainer, session.console, config["mine"]["auto_limit"])
        session.console.print(f"hard pairs: {mined.folder}")
    known = PlanData(
        rows.wanted,
        index.starts,
        stream.batch_size,
        config["seed"],
        stream.window,
        shard_weights(index, session.common.dataset),
        mined.index if mined else None,
        session.common.artifacts / session.common.dataset.name / "partitions",
        session.console,
    )
    plan = how.bind(known)
    clip = create_clip(session.common.model)
    if session.common.model.name == TOY and session.common.dataset.name != TOY_DATA:
        session.console.print(
            f"note: {TOY} is a toy that has seen the embedded emoji alone: model=vit_b_32 for real data"
        )
    data = build_stream(index, clip, plan, stream, config["seed"], steps)
    session.console.print(describe_length(settings, stream, data, clip, rows.usable, session.trainer.world_size))
    embed = session.embed(clip, index, predict_drive(session.trainer), session.trainer.strategy.root_device)
    advice = print_advice(
        embed,
        rows.wanted,
        mined.index if mined else None,
        pairs.topk,
        stream.batch_size,
        config["seed"],
        session.console,
        settings.advice_budget(steps * stream.batch_size),
    )
    before = session.evaluate(clip, index)
    if settings.best:
        check_metric(settings.best, before)
    start = {name: value.clone() for name, value in clip.model.state_dict().items()} if alpha != 1 else None
    began = Start(embed, rows.wanted)
    fixed |= {"hard_pairs": origin(mined.index) if mined else None}
    module = build_module(clip, pairs, optim, steps, settings, fixed, {"dose": advice["dose"]})
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
    callbacks = [StepLog(session.console.print), *ema, seen, evaluation, *best]
    pl.seed_everything(config["seed"], verbose=False)  # what came before depends on what was found on the disk
    trainer = fit(module, data, session.common.trainer, settings, callbacks, loggers, folder)
    columns = {"before": before, **best_column(best, evaluation.history), "after": evaluation.last}
    after = began.drift(embed)
    drift = {"before": dict.fromkeys(after, 0.0), "after": after}
    if start is not None:
        end = {name: value.clone() for name, value in clip.model.state_dict().items()}
        if alpha is None:
            alpha = best_alpha(start, end, clip.model.load_state_dict, embed, by, session.console)
        clip.model.load_state_dict(interpolate(start, end, alpha))
        columns[f"alpha {alpha:g}"] = session.evaluate(clip, index)
        drift[f"alpha {alpha:g}"] = began.drift(embed)
    if session.rank == 0:
        targets = units_per_step(plan)
        about = {
            **job_settings(config, index.fingerprint),
            "steps": trainer.global_step,
            "pairs": trainer.global_step * stream.batch_size,
            "targets": trainer.global_step * targets,
            "seen": seen.counts(),
            "usable_rows": rows.usable,
            "advice": advice,
            "drift": drift,
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
    shown = {name: values | about["drift"].get(name, {}) for name, values in columns.items()}
    print_metrics(shown if any(columns.values()) else columns, folder, session.console)
    last = folder / "checkpoints" / f"step-{trainer.global_step:06d}.ckpt"
    last = last if last.is_file() else trainer.ckpt_path  # of another folder, at whose last step this run began
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
