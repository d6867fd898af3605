"""Evaluation during training: on all ranks, and without an effect on the training."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from pytorch_lightning.utilities.seed import isolate_rng

from helip.embedding.encoders import evaluation_mode
from helip.evaluation.embed import Embed, Evaluator
from helip.evaluation.suite import evaluate_all


class EvaluationCallback(pl.Callback):
    """Runs evaluators at intervals of optimizer steps and after the last step.

    The metrics go to the loggers and, with `evaluated_step`, to trainer.callback_metrics, from which other callbacks
    choose a checkpoint.

    Args:
        evaluators: what to measure.
        make_embed: called on every rank; its result is used outside the DDP wrapper, in evaluation mode.
        every: optimizer steps between two evaluations, for evaluators without a number of their own. 0: after the last
            step only.
        start: metrics of the checkpoint that training began with, for the warning about drift.
        max_drop: share (0..1) by which a zero-shot accuracy may fall below `start` before a warning.
        weights: context manager of a module; the evaluators see the module inside it, for instance with averaged
            weights.

    Attributes:
        history: one dictionary for each evaluation: `step` and the metrics; stored in the checkpoint.
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
        if self.history and self.history[-1]["step"] == step:  # accumulation repeats steps, and so does the end
            return
        # the number of evaluations must not change the training
        with evaluation_mode(module), self.weights(module), isolate_rng():
            metrics = evaluate_all(evaluators, self.make_embed(trainer, module), rank_zero_info)
        self.history.append({"step": step, **metrics})
        for name, value in {**metrics, "evaluated_step": float(step)}.items():
            trainer.callback_metrics[name] = torch.tensor(value, dtype=torch.float64)
        for logger in trainer.loggers if metrics else []:  # empty metrics would be a line of the log
            logger.log_metrics(metrics, step)
        for line in drift(self.start, metrics, self.max_drop):
            rank_zero_warn(line)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]


def drift(start: Mapping[str, float], now: Mapping[str, float], max_drop: float) -> list[str]:
    """A sentence for each zero-shot accuracy that is more than `max_drop` (a share) below its value in `start`."""
    return [
        f"{name} fell from {100 * start[name]:.1f} to {100 * value:.1f} %: the model forgets; lower optim.lr"
        for name, value in now.items()
        if "/zeroshot_" in name and name in start and value < start[name] - max_drop
    ]
