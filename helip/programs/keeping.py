"""The starting model against the trained one: drift of the features, and the best interpolation of the weights on val.

Legend: n compared rows, D embedding width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from helip.artifacts.datasets import DatasetSpec
from helip.errors import HelipError
from helip.evaluation.clip_embed import ClipEmbed
from helip.evaluation.embed import Evaluator
from helip.evaluation.retrieval import Retrieval
from helip.evaluation.samples import values_of
from helip.models.checkpoints import interpolate
from helip.programs.advice import validation_part, validation_rows
from helip.training.anchor import squared_distance

ALPHAS = tuple(step / 10 for step in range(11))
DRIFT_ROWS = 256
CHOICE = ("i2t_recall@1", "t2i_recall@1")
Weights = Mapping[str, torch.Tensor]


class Start:
    """Features of some rows by the starting model: of the validation part, or of the training part if there is none.

    Args:
        embed: the starting model.
        valid: (N,) bool, the usable rows of the training part.
        model: its weights are copied; None: no weights.
    """

    def __init__(self, embed: ClipEmbed, valid: NDArray[np.bool_], model: nn.Module | None = None) -> None:
        self.weights = _copied(model) if model is not None else None
        held_out = validation_rows(embed)
        rows = np.flatnonzero(valid if held_out is None else held_out)
        self.rows = rows[np.linspace(0, len(rows) - 1, min(DRIFT_ROWS, len(rows))).astype(int)]  # (n,) evenly spaced
        self.image, self.text = embed.rows(self.rows, "drift")[:2]  # (n, D) each

    def drift(self, embed: ClipEmbed) -> dict[str, float]:
        """Mean squared distance of the L2-normalised features of images and of texts from the start's: 0 to 4."""
        image, text = embed.rows(self.rows, "drift")[:2]
        sides = {"image": (image, self.image), "text": (text, self.text)}
        return {
            f"drift/{name}": float(squared_distance(torch.from_numpy(now), torch.from_numpy(then)).mean())
            for name, (now, then) in sides.items()
        }

    def drifts(self, embed: ClipEmbed) -> dict[str, dict[str, float]]:
        """Drift by column of the results: 0 before the training, and the current value after it."""
        after = self.drift(embed)
        return {"before": dict.fromkeys(after, 0.0), "after": after}

    def mix(
        self, model: nn.Module, embed: ClipEmbed, alpha: float | None, by: Sequence[Evaluator], console: Console
    ) -> float:
        """Set the weights to (1 - alpha) * start + alpha * weights; returns alpha. None: the one of `best_alpha`."""
        assert self.weights is not None
        end = _copied(model)
        if alpha is None:
            alpha = best_alpha(self.weights, end, model.load_state_dict, embed, by, console)
        model.load_state_dict(interpolate(self.weights, end, alpha))
        return alpha


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the current weights."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def choosers(evaluators: Sequence[Evaluator], dataset: DatasetSpec) -> list[Evaluator]:
    """The evaluators by which export.alpha=auto chooses: retrieval on parts whose name begins with val.

    Raises:
        HelipError: the dataset has no such part.
    """
    found = [one for one in evaluators if isinstance(one, Retrieval) and one.measured_on.startswith("val")]
    part = validation_part(dataset)
    if not found and part is None:
        raise HelipError(
            f"export.alpha=auto chooses on a validation part, and dataset {dataset.name} has none: name its"
            " shards, +dataset.parts.val=FIRST:LAST, or give export.alpha a number"
        )
    return list(found) or [Retrieval(name=str(part), part=str(part))]


def best_alpha(
    start: Weights,
    end: Weights,
    load: Callable[[Weights], Any],
    embed: ClipEmbed,
    by: Sequence[Evaluator],
    console: Console,
) -> float:
    """The alpha among 0, 0.1 .. 1 of the highest recall@1, mean of both directions and of the parts; ties: the larger.

    Makes eleven passes over the validation parts. All ranks call it and find the same.

    Args:
        start, end: weights of alpha 0 and 1.
        load: sets the weights of the model of `embed`.
        by: from `choosers`.
    """
    found: dict[float, float] = {}
    for alpha in ALPHAS:
        load(interpolate(start, end, alpha))
        values = [values_of(one.run(embed)) for one in by]
        found[alpha] = float(np.mean([one[name] for one in values for name in CHOICE]))
    best = max(ALPHAS, key=lambda alpha: (found[alpha], alpha))
    listed = ", ".join(f"{alpha:g}: {100 * value:.2f}" for alpha, value in found.items())
    console.print(f"export.alpha=auto: {best:g}, by recall@1 on {', '.join(one.measured_on for one in by)} ({listed})")
    return best
