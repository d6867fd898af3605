"""Evaluation while training: on every rank or on none, and without a trace in the training itself."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from pytorch_lightning.utilities.seed import isolate_rng

from helip.evaluation.embed import Embed, Evaluator
from helip.evaluation.suite import evaluate_all


class EvaluationCallback(pl.Callback):
    """Runs evaluators every so many optimizer steps and after the last one.

    The metrics go to the loggers, and with `evaluated_step` to trainer.callback_metrics for callbacks that choose by
    them.

    Attributes:
        history: one dictionary an evaluation: `step` and the metrics; kept in the checkpoint.
    """

    def __init__(
        self,
        evaluators: Sequence[Evaluator],
        make_embed: Callable[[pl.Trainer, pl.LightningModule], Embed],
        every: int,
        start: Mapping[str, float] | None = None,
        max_drop: float = 0.05,
        weights: Callable[[pl.LightningModule], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Say what to run and when.

        Args:
            evaluators: what to measure.
            make_embed: called on every rank; what it returns runs outside the DDP wrapper, in evaluation mode.
            every: optimizer steps between two evaluations, of the evaluators that name no number of their own; an
                epoch, for instance. 0: after the last step only.
            start: metrics of the checkpoint that training began with; arms the drift alarm.
            max_drop: share (0..1) by which a zero-shot accuracy may fall below `start` before a warning.
            weights: what the evaluators see is the module inside weights(module), its averaged weights for instance.
        """
        self.weights = weights
        self.evaluators, self.make_embed, self.every = tuple(evaluators), make_embed, every
        self.start, self.max_drop = dict(start or {}), max_drop
        self.history: list[dict[str, float]] = []

    @property
    def last(self) -> dict[str, float]:
        """Metrics of the latest evaluation, without the step."""
        return {key: value for key, value in self.history[-1].items() if key != "step"} if self.history else {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step == trainer.max_steps:  # here and not in on_train_end, so that the last checkpoint has the last metrics
            self._evaluate(trainer, pl_module, self.evaluators)
            return
        due = [one for one in self.evaluators if (every := one.every or self.every) and step % every == 0]
        if due:
            self._evaluate(trainer, pl_module, due)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._evaluate(trainer, pl_module, self.evaluators)

    def _evaluate(self, trainer: pl.Trainer, module: pl.LightningModule, evaluators: Sequence[Evaluator]) -> None:
        step = trainer.global_step
        if self.history and self.history[-1]["step"] == step:  # accumulation repeats a step, the end repeats the last
            return
        training = [part for part in module.modules() if part.training]
        module.eval()
        try:
            with self.weights(module), isolate_rng():  # evaluating more or less often must not change what is trained
                metrics = evaluate_all(evaluators, self.make_embed(trainer, module), rank_zero_info)
        finally:
            for part in training:
                part.training = True
        self.history.append({"step": step, **metrics})
        for name, value in {**metrics, "evaluated_step": float(step)}.items():
            trainer.callback_metrics[name] = torch.tensor(value, dtype=torch.float64)
        for logger in trainer.loggers if metrics else []:  # an empty line would be one of the log
            logger.log_metrics(metrics, step)
        for line in drift(self.start, metrics, self.max_drop):
            rank_zero_warn(line)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]


def drift(start: Mapping[str, float], now: Mapping[str, float], max_drop: float) -> list[str]:
    """A sentence for each zero-shot accuracy that fell by more than `max_drop` (a share) below the starting one."""
    return [
        f"{name} fell from {100 * start[name]:.1f} to {100 * value:.1f} %: the model forgets; lower optim.lr"
        for name, value in now.items()
        if "/zeroshot_" in name and name in start and value < start[name] - max_drop
    ]
