"""Selects the best checkpoint of a run on a validation part, never on a part whose metrics are reported."""

import math
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_warn

from helip.artifacts.atomic import atomic_file
from helip.errors import HelipError, nearest
from helip.evaluation.embed import Evaluator

FILE = "best.ckpt"


class BestCheckpoint(Checkpoint):
    """Keeps best.ckpt: the checkpoint with the best value of one metric among the evaluations of a run.

    It must follow the callback that evaluates. The starting checkpoint is no candidate. A later checkpoint must be
    strictly better; ranks (`*_rank`) are better when lower. Every checkpoint records the best value, and a resumed run
    with a folder of its own copies the file.

    Attributes:
        value: best value so far; None before the first evaluation.
        step: optimizer step of the best value.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        super().__init__()
        self.path, self.metric = folder / FILE, metric
        self.value: float | None = None
        self.step = 0
        self._earlier: str | None = None  # best.ckpt of the run that is resumed
        self._looked = -1  # step of the last comparison

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over best.ckpt of an earlier part of the run."""
        self._looked = trainer.global_step
        if self.value is None or not trainer.is_global_zero:
            return
        if not self.path.is_file() and self._earlier and Path(self._earlier).is_file():
            with atomic_file(self.path) as temporary:
                shutil.copyfile(self._earlier, temporary)
        if self.path.is_file():  # it may be of a later step than the checkpoint of the resume
            stored = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
            self._take(stored["callbacks"][self.state_key])
        else:
            rank_zero_warn(f"{self._earlier} of the earlier part of this run is gone: the best is chosen from here on")
            self.value = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Compare, if this step was evaluated. Rank 0 decides for all ranks, because they save together."""
        evaluated = trainer.callback_metrics.get("evaluated_step")
        if evaluated is None or int(evaluated) != trainer.global_step or self._looked == trainer.global_step:
            return
        self._looked = trainer.global_step
        value = float(trainer.callback_metrics.get(self.metric, math.nan))
        if not trainer.strategy.broadcast(better(self.metric, value, self.value)):
            return
        self.value, self.step = value, trainer.global_step
        trainer.save_checkpoint(self.path)

    def _take(self, record: Mapping[str, Any]) -> None:
        self.value, self.step = record["value"], record["step"]

    def state_dict(self) -> dict[str, Any]:
        return {"metric": self.metric, "value": self.value, "step": self.step, "path": str(self.path)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value, unless it is of another metric."""
        if state_dict["metric"] == self.metric:
            self._take(state_dict)
            self._earlier = state_dict["path"]


def better(metric: str, value: float, than: float | None) -> bool:
    """Whether a value of a metric is strictly better than another, or the first one; NaN never is."""
    if than is None:
        return not math.isnan(value)
    return value < than if metric.endswith("_rank") else value > than


def check_choice(metric: str, evaluators: Sequence[Evaluator]) -> None:
    """Raises HelipError for a metric of no evaluator, or of one that does not measure a validation part."""
    prefix = metric.partition("/")[0]
    names = dict.fromkeys(one.name for one in evaluators)
    if prefix not in names or "/" not in metric:
        raise HelipError(
            f"train.best={metric} is no metric of an evaluator: begin it with one of "
            f"{', '.join(f'{name}/' for name in names) or '(there is no evaluator)'}, such as val/i2t_recall@1"
        )
    for one in evaluators:
        if one.name == prefix and not one.measured_on.startswith("val"):  # several evaluators may share a name
            raise HelipError(
                f"train.best={metric} would choose the checkpoint on {one.measured_on!r}, which is reported: "
                "choose on a part whose name begins with val"
            )


def check_metric(metric: str, measured: Collection[str]) -> None:
    """Raises HelipError if `metric` (train.best) is none of the metrics `measured` before training."""
    if metric not in measured:
        own = [name for name in measured if name.startswith(metric.partition("/")[0] + "/")]
        raise HelipError(
            f"train.best={metric} is not among what was measured{nearest(metric, measured, 0.6)}: "
            f"{', '.join(own) or 'its evaluator was skipped'}"
        )
