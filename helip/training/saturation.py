"""How much a model can still learn from a batch: its contrastive loss as a share of chance.

Legend: n embedded pairs, B pairs of a batch, D embedding width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from helip.training.batch_roles import known_duplicates

FALLING = 0.30  # of ln B: from this loss on, random negatives still teach
SPENT = 0.20  # of ln B: below this loss, they hardly teach
SPENT_ROW = 1e-3  # assumption: below this loss the positive has 99.9 % of the probability, and hardly any gradient


def kind_of(training: float, held_out: float | None) -> str:
    """falling, middle, spent, or overfit (spent on training rows only), by the losses on random batches / ln B."""
    if training >= FALLING:
        return "falling"
    if training >= SPENT:
        return "middle"
    return "overfit" if held_out is not None and held_out >= SPENT else "spent"


@dataclass(frozen=True)
class Saturation:
    """Means over the rows of some batches.

    Attributes:
        loss: CLIP's contrastive loss without a margin, known duplicates left out.
        chance: ln B, the loss of a model that knows nothing.
        spent: share of rows whose loss is below SPENT_ROW.
    """

    loss: float
    chance: float
    spent: float

    @property
    def share(self) -> float:
        """Loss / chance: 1 for a model that knows nothing, 0 for one that learns nothing from these batches."""
        return self.loss / self.chance


@dataclass(frozen=True)
class Embedded:
    """Pairs, embedded by a model."""

    image: NDArray[np.float32]  # (n, D) L2-normalised
    text: NDArray[np.float32]  # (n, D)
    identity: NDArray[np.int64]  # (n, C), row first, then digests; equal in any column = known duplicates
    scale: float  # of the temperature

    def saturation(self, batches: Sequence[NDArray[np.int64]]) -> Saturation:
        """Over batches of B positions each."""
        losses = np.concatenate([self.losses(batch) for batch in batches])
        return Saturation(float(losses.mean()), math.log(len(batches[0])), float((losses < SPENT_ROW).mean()))

    def losses(self, batch: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B,) loss of each pair of a batch of positions: the mean of its two cross-entropies."""
        image, text = torch.from_numpy(self.image[batch]), torch.from_numpy(self.text[batch])  # (B, D) each
        identity = torch.from_numpy(self.identity[batch])
        duplicate = known_duplicates(identity, identity).fill_diagonal_(False)
        logits = (self.scale * image.float() @ text.float().T).masked_fill_(duplicate, -torch.inf)  # (B, B)
        both = logits.logsumexp(1) + logits.logsumexp(0)
        return (both / 2 - logits.diagonal()).numpy()
