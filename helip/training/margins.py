"""Margins between positives and negatives, one class each; `Margin` is none.

A margin either adds M to the similarities of negatives before the temperature (`offset`), so that the loss uses
scale * (S + M), or adds a separate term (`term`). The loss sets M to 0 for the pair itself and for known duplicates.

    HNML        arXiv 2305.05208: a normal negative must be less similar than the target's hard pair.
    constant    M = m: positive >= negative + m, the additive margin of AM-softmax (arXiv 1801.05599).
    similarity  M = gamma * T T^t of the current texts (or images), without gradient: similar pairs are pushed further.

The effect depends on scale * M; a trained scale falls while a margin is on.

Legend: B pairs of this rank, R of them in a block, M pairs of the global batch, D embedding width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from helip.errors import HelipError
from helip.training.batch_roles import Layout, Pairs


@dataclass(frozen=True)
class Block:
    """The input of a margin: R rows of this rank against the M pairs of the global batch, with gradients."""

    image_rows: Tensor  # (R, M) cosines of these rows' images and all texts, float32 or better
    text_rows: Tensor  # (R, M) of these rows' texts and all images; image_rows unless needs_text_rows
    all_image: Tensor  # (M, D) L2-normalised, any floating type
    all_text: Tensor  # (M, D)
    pairs: Pairs
    layout: Layout


class Margin:
    """No margin, and the base class: a margin overrides one of the two methods."""

    needs_text_rows = False

    def offset(self, block: Block) -> Tensor | None:
        """(R, M) values added to the similarities of negatives in both directions; None: nothing."""
        return None

    def term(self, block: Block) -> Tensor | None:
        """() this block's part of a mean over the targets of the global batch; None: no term."""
        return None

    def note(self, scale: float) -> str:
        """A line for the user, printed before a training that starts at this logit_scale; empty: none."""
        return ""


class HardNegativeMargin(Margin):
    """HNML of the paper.

    Args:
        weight: gamma; 0 switches it off.
        symmetric: add the text-to-image margin to the paper's image-to-text margin.
    """

    def __init__(self, weight: float = 1.0, symmetric: bool = False) -> None:
        if not weight >= 0:
            raise HelipError(f"weight (helip.margin_weight) is {weight}: give 0 or a positive weight")
        self.weight, self.symmetric = float(weight), symmetric
        self.needs_text_rows = symmetric and self.weight > 0

    def term(self, block: Block) -> Tensor | None:
        """The margin of images, plus that of texts if symmetric."""
        if self.weight == 0:
            return None
        margin = hard_negative_margin(block.image_rows, block.pairs)
        if self.symmetric:
            margin = margin + hard_negative_margin(block.text_rows, block.pairs)
        return margin * self.weight


MOST_LOGITS = 30  # assumption: twice what the scale of 22 to 28 in experiments/hard_batches made of m = 0.6
STUDIED_LOGITS = 15


class ConstantMargin(Margin):
    """The same margin for every negative.

    Args:
        m: in units of the cosine; 0 switches it off.
    """

    def __init__(self, m: float) -> None:
        if not 0 <= m < 2:
            raise HelipError(f"m (helip.margin.m) is {m}: give a margin from 0, below 2, the range of a cosine")
        self.m = float(m)

    def offset(self, block: Block) -> Tensor | None:
        """M = m."""
        return torch.full_like(block.image_rows, self.m, requires_grad=False) if self.m > 0 else None

    def note(self, scale: float) -> str:
        """Where the margin is large at this scale."""
        if self.m * scale <= MOST_LOGITS:
            return ""
        return (
            f"\nnote: helip.margin.m={self.m:g} at a logit_scale of {scale:.0f} adds {self.m * scale:.0f} to the logit "
            f"of each negative; helip.margin.m={STUDIED_LOGITS / scale:.2g} adds what was studied (docs/recipes.md)"
        )


class SimilarityMargin(Margin):
    """A margin in proportion to the similarity of two pairs under the current model ("Which Negatives Matter?", 2026).

    Args:
        gamma: factor of the cosine; 0 switches it off.
        of: "text" or "image", the modality of the cosine.
        permuted: a control that assigns the values to random negatives: M'(i, j) = M(pi(i), pi(j)), where pi is a fixed
            random permutation of the global batch (seeded by its size, the same on all ranks). The matrix keeps its
            values and its symmetry, as in Mantel's test.
    """

    def __init__(self, gamma: float, of: str = "text", permuted: bool = False) -> None:
        if not gamma >= 0:
            raise HelipError(f"gamma (helip.margin.gamma) is {gamma}: give 0 or a positive factor")
        if of not in ("text", "image"):
            raise HelipError(f"of (helip.margin.of) is {of}, which is not one of text, image")
        self.gamma, self.of, self.permuted = float(gamma), of, permuted

    def offset(self, block: Block) -> Tensor | None:
        """M = gamma * stop_gradient(T T^t)."""
        if self.gamma == 0:
            return None
        features = (block.all_text if self.of == "text" else block.all_image).detach().to(block.image_rows.dtype)
        own = block.pairs.own
        if not self.permuted:
            return self.gamma * (features[own] @ features.T)
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(len(features))).to(own.device)
        offset = self.gamma * (features[order[own]] @ features[order].T)
        duplicate = block.layout.duplicates(order[own])  # duplicates get 0 before and after the permutation
        return offset if duplicate is None else offset.masked_fill_(duplicate[:, order], 0)


def hard_negative_margin(similarity: Tensor, pairs: Pairs) -> Tensor:
    """HNML of a block: its part of the mean over the targets of the global batch.

    A target without a hard pair has an infinite bar, so it contributes exactly 0 with a gradient of exactly 0.

    Args:
        similarity: (R, M) cosines of these rows against the global batch.
        pairs: the roles of the columns.
    """
    none = similarity.new_tensor(torch.inf)
    of_pair = torch.where(pairs.hard, similarity[pairs.owner, pairs.column], none)  # (B,)
    bar = none.repeat(len(similarity)).scatter_reduce(0, pairs.owner, of_pair, "amin")[:, None]  # (R, 1)
    excess = torch.where(pairs.normal & (similarity > bar), similarity - bar, 0)  # (R, M)
    per_target = excess.sum(1) / pairs.normal.sum(1).clamp(min=1)
    return per_target.sum() / pairs.targets
