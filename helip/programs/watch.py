"""HELIP's own callbacks of a training: evaluators, best checkpoint, averaged weights, counted rows, log."""

import math
from contextlib import nullcontext

import pytorch_lightning as pl

from helip.artifacts.shards import ShardIndex
from helip.evaluation.best import BestCheckpoint
from helip.evaluation.callback import EvaluationCallback
from helip.evaluation.clip_embed import ClipEmbed
from helip.mining.request import Rows
from helip.models.clip import Clip
from helip.programs.compare import best_column
from helip.programs.session import Session
from helip.tracking.log import StepLog
from helip.training.ema import Ema
from helip.training.row_coverage import RowCoverage
from helip.training.settings import TrainSettings


class Watch:
    """The callbacks, and the metrics that they collect; `rows` of the training part, metrics `before` the training."""

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
            return session.embed(clip, index, trainer)

        self.before = before
        self.ema = [Ema(decay=asked.ema)] if asked.ema is not None else []
        epoch = max(1, math.ceil(rows.usable / session.stream.batch_size))
        every = int({"epoch": epoch, "end": 0}.get(str(asked.evaluate), asked.evaluate))
        averaged, max_drop = self.ema[0].averaged if self.ema else nullcontext, session.settings.evaluation.max_drop
        self.evaluation = EvaluationCallback(session.evaluators, make_embed, every, before, max_drop, averaged)
        self.best = [BestCheckpoint(session.folder / "checkpoints", asked.best)] if asked.best else []
        self.seen, self.log = RowCoverage(len(rows.wanted)), StepLog(session.console.print)

    @property
    def callbacks(self) -> list[pl.Callback]:
        """In the order of their calls: the average must be taken before it is evaluated."""
        return [self.log, *self.ema, self.seen, self.evaluation, *self.best]

    def columns(self) -> dict[str, dict[str, float]]:
        """Metrics before the training, of the best checkpoint if one is kept, and after the training."""
        return {
            "before": self.before,
            **best_column(self.best, self.evaluation.history),
            "after": self.evaluation.last,
        }
