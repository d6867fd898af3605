"""How much a model can still learn from a batch: its contrastive loss relative to chance.

Legend: n embedded pairs, B pairs of a batch, D embedding width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from helip.training.batch_roles import known_duplicates

FALLING = 0.30  # of ln B, from which random negatives still teach
SPENT = 0.20  # of ln B, below which they hardly do
SPENT_ROW = 1e-3  # assumption: the positive of such a row has 99.9 % of the probability, and its gradient is as small


def kind_of(training: float, held_out: float | None) -> str:
    """What a checkpoint's losses on random batches, as shares of ln B, say of it.

    Returns:
        falling, middle, spent, or overfit, which is spent on its training rows alone.
    """
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
        spent: share of rows whose loss is under SPENT_ROW.
    """

    loss: float
    chance: float
    spent: float

    @property
    def share(self) -> float:
        """Of chance: 1 is a model that knows nothing, 0 one for which these batches have nothing left."""
        return self.loss / self.chance


@dataclass(frozen=True)
class Embedded:
    """Pairs as a model sees them."""

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
