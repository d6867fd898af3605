"""train: continued training with hard pairs, evaluated before and after."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from helip.artifacts.atomic import write_json
from helip.data.datamodule import HelipDataModule
from helip.data.plans.contract import units_per_step
from helip.errors import HelipError
from helip.evaluation.best import FILE as BEST
from helip.evaluation.best import check_choice, check_metric
from helip.evaluation.clip_embed import ClipEmbed
from helip.evaluation.results import results
from helip.mining.request import Mined, Rows, training_rows
from helip.models.checkpoints import export_clip, read_checkpoint
from helip.models.clip import create_clip
from helip.programs.advice import print_advice
from helip.programs.compare import benchmark_names, print_metrics
from helip.programs.continued import finished, record_of, resumed
from helip.programs.hard_pairs import ensure_hard_pairs
from helip.programs.keeping import Start, choosers
from helip.programs.requests import mining_request, plan_data
from helip.programs.session import Session
from helip.programs.settings import SharedSettings
from helip.programs.training import build_module, build_stream, describe_length, fit, make_loggers, own_callbacks
from helip.programs.verify import origin
from helip.programs.watch import Watch
from helip.tracking.run import provenance
from helip.training.module import HelipModule
from helip.training.optim import OptimSettings
from helip.training.resume_guard import fixed_record
from helip.training.settings import ExportSettings, TrainSettings
from helip.typed import Leaf, result

TOY, TOY_DATA = "emoji_tiny", "emoji"


@dataclass(frozen=True)
class TrainingSettings(SharedSettings):
    """conf/train.yaml; `callbacks` are Lightning's or the user's, by a name each."""

    optim: OptimSettings = result()
    train: TrainSettings = result()
    export: ExportSettings = result()
    callbacks: dict[str, Leaf[pl.Callback]] = result()


def train(settings: TrainingSettings, folder: Path) -> None:
    """Ensure the hard pairs, evaluate, fit, evaluate again; the run folder holds all of it."""
    session = Session("train", settings, folder)
    _check(session, settings)
    callbacks, alpha = own_callbacks(settings.callbacks), settings.export.share
    by = choosers(session.evaluators, settings.dataset) if alpha is None else []
    how = settings.helip.plan()
    how.check(settings.data.batch_size)
    index = session.open_index()
    record = record_of(settings, index.fingerprint)
    if finished(session, record, settings.train.skip_finished):
        return
    rows, stream = training_rows(index, settings.dataset), session.stream
    steps = settings.train.steps(rows.usable, stream.batch_size)
    fixed = settings.fixed(index.fingerprint)
    asked = resumed(session, settings.train, fixed_record(settings.optim, steps, fixed))
    mined = _hard_pairs(session, settings, rows, how.mines)
    hard = mined.index if mined else None
    plan = how.bind(plan_data(settings, index, rows, hard, session.console))
    clip = create_clip(settings.model)
    data = build_stream(index, clip, plan, stream, settings.seed, steps)
    embed = session.embed(clip, index)
    advice = _describe(session, settings, asked, rows, data, embed)
    before = session.evaluate(clip, index)
    if asked.best:
        check_metric(asked.best, before)
    start = Start(embed, rows.wanted, None if alpha == 1 else clip.model)
    fixed |= {"hard_pairs": origin(hard) if hard else None}
    module = build_module(clip, asked, settings.optim, steps, fixed, {"dose": advice["dose"]})
    watch = Watch(session, clip, index, rows, asked, before)
    board = session.dashboard("train")
    board.uses(mined)
    board.starts_from(before)
    own = make_loggers(settings.logger.csv, session.folder, settings.logger.tensorboard) if session.rank == 0 else []
    pl.seed_everything(settings.seed, verbose=False)  # the draws so far depend on the files that were found
    callbacks, loggers = [*watch.callbacks, *callbacks], [*own, *board.loggers()]
    trainer = fit(module, data, settings.trainer, asked, callbacks, loggers, session.folder)
    columns, drift = watch.columns(), start.drifts(embed)
    if alpha != 1:
        share = start.mix(clip.model, embed, alpha, by, session.console)
        columns[f"alpha {share:g}"] = session.evaluate(clip, index)
        drift[f"alpha {share:g}"] = start.drift(embed)
    if session.rank == 0:
        about = {
            **record,
            "steps": trainer.global_step,
            "pairs": trainer.global_step * stream.batch_size,
            "targets": trainer.global_step * units_per_step(plan),
            "seen": watch.seen.counts(),
            "usable_rows": rows.usable,
            "advice": advice,
            "drift": drift,
            "hard_pairs": str(mined.folder) if mined else None,
        }
        _finish(session, module, trainer, columns, about)
    board.trained(columns)


def _check(session: Session, settings: TrainingSettings) -> None:
    """Raise before hours of mining what can be known now."""
    if settings.dataset.path is None:
        raise HelipError("dataset=none has no images to train on: name a dataset")
    settings.train.loss()
    anchor = settings.train.anchor
    if anchor is not None and settings.model.random:
        raise HelipError(f"train.anchor={anchor} would hold the model to random weights: set model.pretrained")
    if settings.train.best:
        check_choice(settings.train.best, session.evaluators)
    if settings.model.name == TOY and settings.dataset.name != TOY_DATA:
        session.console.print(
            f"note: {TOY} is a toy that was trained on the embedded emoji only: set model=vit_b_32 for real data"
        )


def _hard_pairs(session: Session, settings: TrainingSettings, rows: Rows, wanted: bool) -> Mined | None:
    """Found or mined; None if none are wanted."""
    if not wanted:
        return None
    limit = settings.mine.auto_limit
    mined = ensure_hard_pairs(mining_request(settings), rows, session.trainer, session.console, limit)
    session.console.print(f"hard pairs: {mined.folder}")
    return mined


def _describe(
    session: Session,
    settings: TrainingSettings,
    asked: TrainSettings,
    rows: Rows,
    data: HelipDataModule,
    embed: ClipEmbed,
) -> dict[str, Any]:
    """Print the length of the training, a note about its margin, and the advice; returns the advice."""
    console, batch_size, clip = session.console, settings.data.batch_size, embed.clip
    length = describe_length(asked, session.stream, data, clip, rows.usable, session.trainer.world_size)
    console.print(length + settings.helip.margin().note(clip.logit_scale))
    plan = data.read.plan if settings.helip.plan().mines else None
    budget = asked.advice_budget(data.steps * batch_size)
    return print_advice(embed, rows.wanted, plan, settings.helip.topk, batch_size, settings.seed, console, budget)


def _finish(
    session: Session,
    module: HelipModule,
    trainer: pl.Trainer,
    columns: dict[str, dict[str, float]],
    about: dict[str, Any],
) -> None:
    """final.pt (the last of the columns), best.pt, results.json, and the table."""
    folder, settings = session.folder, session.settings
    final = export_clip(module, folder / "final.pt")
    best = folder / "checkpoints" / BEST
    if best.is_file():
        export_clip(read_checkpoint(best), folder / "best.pt")
    shown = {name: values | about["drift"].get(name, {}) for name, values in columns.items()}
    print_metrics(shown if any(columns.values()) else columns, folder, session.console)
    last = folder / "checkpoints" / f"step-{trainer.global_step:06d}.ckpt"
    last = last if last.is_file() else trainer.ckpt_path  # of another folder, at whose last step this run began
    pretrained = {name: str(final if name == list(columns)[-1] else last) for name in columns}
    pretrained["before"] = str(settings.model.pretrained)
    pretrained |= {name: str(folder / "best.pt") for name in columns if name.startswith("best ")}
    content = results(
        columns,
        dataset=settings.dataset.name,
        model=settings.model.name,
        pretrained=pretrained,
        about=about | provenance(),
        names=benchmark_names(session.evaluators),
    )
    write_json(folder / "results.json", content)
    session.console.print(f"run folder: {folder} (final.pt, results.json, metrics.csv, checkpoints)")
