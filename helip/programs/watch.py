"""HELIP's own callbacks of a training: evaluators, best checkpoint, average of the weights, rows seen, log."""

import math
from contextlib import nullcontext

import pytorch_lightning as pl

from helip.artifacts.shards import ShardIndex
from helip.evaluation.best import BestCheckpoint
from helip.evaluation.clip_embed import ClipEmbed, inside_fit_drive
from helip.mining.request import Rows
from helip.models.clip import Clip
from helip.programs.compare import best_column
from helip.programs.session import Session
from helip.programs.training import evaluation_callback
from helip.tracking.log import StepLog
from helip.training.ema import Ema
from helip.training.row_coverage import RowCoverage
from helip.training.settings import TrainSettings


class Watch:
    """The callbacks, and the metrics that they collect.

    Args:
        session: of the program.
        clip: the model that is trained.
        index: the shards.
        rows: of the training part.
        asked: settings of the training.
        before: metrics of the starting model.
    """

    def __init__(
        self,
        session: Session,
        clip: Clip,
        index: ShardIndex,
        rows: Rows,
        asked: TrainSettings,
        before: dict[str, float],
    ) -> None:
        def make_embed(trainer: pl.Trainer, _: pl.LightningModule) -> ClipEmbed:
            return session.embed(clip, index, inside_fit_drive(trainer), trainer.strategy.root_device)

        self.before = before
        self.ema = [Ema(decay=asked.ema)] if asked.ema is not None else []
        per_epoch = max(1, math.ceil(rows.usable / session.stream.batch_size))
        averaged, max_drop = self.ema[0].averaged if self.ema else nullcontext, session.settings.evaluation.max_drop
        self.evaluation = evaluation_callback(
            session.evaluators, make_embed, asked, per_epoch, before, averaged, max_drop
        )
        self.best = [BestCheckpoint(session.folder / "checkpoints", asked.best)] if asked.best else []
        self.seen, self.log = RowCoverage(len(rows.wanted)), StepLog(session.console.print)

    @property
    def callbacks(self) -> list[pl.Callback]:
        """In the order in which they are called: the average is taken before it is evaluated."""
        return [self.log, *self.ema, self.seen, self.evaluation, *self.best]

    def columns(self) -> dict[str, dict[str, float]]:
        """Metrics by the model that has them: before, the best checkpoint if one is asked for, after."""
        return {
            "before": self.before,
            **best_column(self.best, self.evaluation.history),
            "after": self.evaluation.last,
        }
