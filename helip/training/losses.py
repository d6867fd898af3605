"""Contrastive loss over the global batch with a margin of helip.training.margins, by default that of arXiv 2305.05208.

    loss = l_CLIP + gamma * l_margin
    l_margin = mean over targets i of  sum_{j in N_i} max(0, s(i, j) - min_{h in H_i} s(i, h)) / |N_i|

The margin uses the similarity matrix of the contrastive term. Each rank computes the rows of its own pairs against all
columns, gathered *with* gradient. The average of DDP over ranks then equals the gradient of the same batch on one
process (tested), also if ranks hold different numbers of targets.

A block of rows with MAX_ENTRIES similarities is in memory at a time, with about 40 bytes each. For larger batches, the
backward pass computes each block again: a second matrix product for bounded memory.

Legend: B pairs of this rank, R of them in a block, M pairs of the global batch, D embedding width, k mined rows.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from helip.errors import HelipError
from helip.training.batch_roles import Layout, Pairs, lay_out
from helip.training.gather import check_process_group, gather_features
from helip.training.margins import Block, HardNegativeMargin, Margin
from helip.training.statistics import batch_statistics, block_sums, kept_negatives

MAX_ENTRIES = 1 << 26  # 8,192 x 8,192; smaller batches need no second product


class HelipLoss(nn.Module):
    """CLIP's symmetric cross-entropy with a margin.

    Without duplicates and margin, value and gradient equal those of
    open_clip.loss.ClipLoss(local_loss=True, gather_with_grad=True). The value is this rank's part: the mean over ranks
    is the loss of the global batch.

    Args:
        margin_weight: weight of HardNegativeMargin (default 1) if no `margin` is given; 0: no margin.
        symmetric: of HardNegativeMargin, likewise.
        mask_duplicates: remove known duplicates (see `identity`) from the negatives of all terms.
        rank, world_size: of this process; may be set later, as attributes. Each rank has B pairs of the batch.
        margin: a margin of helip.training.margins.
        max_entries: similarities in memory at a time.
    """

    contrastive_name = "clip_loss"
    needs_text_rows = True

    def __init__(
        self,
        margin_weight: float | None = None,
        symmetric: bool = False,
        mask_duplicates: bool = True,
        rank: int = 0,
        world_size: int = 1,
        margin: Margin | None = None,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        super().__init__()
        if margin is not None and (margin_weight is not None or symmetric):
            raise HelipError("HelipLoss: give a margin, or the margin_weight and symmetric of HNML, not both")
        self.margin = margin or HardNegativeMargin(1.0 if margin_weight is None else margin_weight, symmetric)
        self.mask_duplicates = mask_duplicates
        self.rank = rank
        self.world_size = world_size
        self.max_entries = max_entries

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        target: Tensor,
        identity: Tensor | None = None,
        mined: Tensor | None = None,
        logit_bias: Tensor | None = None,
        statistics: bool = True,
    ) -> dict[str, Tensor]:
        """Loss terms of this rank's rows.

        Args:
            image_features: (B, D) L2-normalised, any floating type; similarities and logits are at least float32.
            text_features: (B, D) likewise.
            logit_scale: () the factor itself (open_clip models return it exponentiated).
            target: (B,) int64: own position (a target), its target's position (a hard pair), -1 (filler).
            identity: (B, C) int64: row, then digests of image and caption; equal in any column = known duplicate.
            mined: (B, k) int64 mined top k of a target, -1 padded; these rows are no normal negatives of it.
            logit_bias: () added to the logits; required by SigLIP.
            statistics: also return those of `batch_statistics`.

        Returns:
            Scalars. The ones with a name in `_loss` sum to the loss and have a gradient; the others are detached.

        Raises:
            HelipError: shapes do not agree, or torch.distributed runs with another rank or world size.
        """
        if image_features.shape != text_features.shape or len(image_features) != len(target):
            raise HelipError(
                f"{tuple(image_features.shape)} image features, {tuple(text_features.shape)} text features and"
                f" {len(target)} targets: the loss needs one of each per pair"
            )
        all_image, all_text = image_features, text_features
        if self.world_size > 1:
            check_process_group(self.rank, self.world_size)
            all_image, all_text = gather_features(image_features, text_features)  # (M, D) each
        layout = lay_out(target, identity, mined, self.mask_duplicates, self.rank, self.world_size)
        count, step = len(target), max(1, self.max_entries // max(1, len(all_image)))
        inputs = image_features, text_features, all_image, all_text, logit_scale, logit_bias, layout, statistics
        block = self._block if step >= count else partial(_again_in_backward, self._block)
        with torch.autocast(image_features.device.type, enabled=False):
            parts = [block(start, min(start + step, count), *inputs) for start in range(0, count, step)]
        contrastive, margin, *sums = (_total(column) for column in zip(*parts, strict=True))
        result = {self.contrastive_name: contrastive, "margin_loss": margin}
        if statistics:
            result |= batch_statistics(sums[0])
        return result

    def _block(
        self,
        start: int,
        stop: int,
        image: Tensor,
        text: Tensor,
        all_image: Tensor,
        all_text: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None,
        layout: Layout,
        statistics: bool,
    ) -> tuple[Tensor, ...]:
        """The terms of the rows `start` to `stop` and the sums of their statistics; both add up over blocks."""
        pairs = layout.rows(start, stop)
        image_rows = _similarity(image[start:stop], all_text)  # (R, M)
        text_rows = image_rows
        if self.needs_text_rows or self.margin.needs_text_rows or statistics:
            text_rows = _similarity(text[start:stop], all_image)  # (R, M)
        block = Block(image_rows, text_rows, all_image, all_text, pairs, layout)
        shifted = image_rows, text_rows
        offset = self.margin.offset(block)
        if offset is not None:
            offset = offset.masked_fill(~kept_negatives(pairs), 0)
            shifted = image_rows + offset, text_rows + offset
        # a mean over the rows of the block, weighted by the block's share of this rank's rows
        contrastive = self.contrastive(*shifted, logit_scale, logit_bias, pairs) * ((stop - start) / len(image))
        margin = self.margin.term(block)
        # DDP averages over ranks, but the term is a mean over the targets of all ranks.
        margin = image_rows.new_zeros(()) if margin is None else margin * self.world_size
        return contrastive, margin, *([block_sums(block, offset)] if statistics else [])

    def contrastive(
        self, image_rows: Tensor, text_rows: Tensor, logit_scale: Tensor, logit_bias: Tensor | None, pairs: Pairs
    ) -> Tensor:
        """Mean over the rows of the two cross-entropies; (R, M) similarities of images and of texts."""
        total = image_rows.new_zeros(())
        for rows in (image_rows, text_rows):
            logits = logit_scale * rows
            if logit_bias is not None:  # does not change the softmax, but DDP refuses unused parameters
                logits = logits + logit_bias
            if pairs.duplicate is not None:
                logits = logits.masked_fill(pairs.duplicate, -torch.inf)  # the positive itself is never masked
            total = total + F.cross_entropy(logits, pairs.own)
        return total / 2


class HelipSigLipLoss(HelipLoss):
    """SigLIP's pairwise sigmoid loss (arXiv 2303.15343) with a margin; without one it equals open_clip.loss.SigLipLoss.

    Known duplicates are neither positives nor negatives. A margin is added to the similarities of negatives only.
    """

    contrastive_name = "siglip_loss"
    needs_text_rows = False

    def contrastive(
        self, image_rows: Tensor, text_rows: Tensor, logit_scale: Tensor, logit_bias: Tensor | None, pairs: Pairs
    ) -> Tensor:
        """Per row, the sum over the pairs of the global batch; (R, M) similarities of images."""
        if logit_bias is None:
            raise HelipError(
                "the model has no logit_bias, which SigLIP's loss needs: use a SigLIP model, or set "
                "+model.arguments.init_logit_bias=-10"
            )
        negated = -(logit_scale * image_rows + logit_bias)
        is_own = torch.zeros_like(negated, dtype=torch.bool).scatter_(1, pairs.own[:, None], True)
        terms = F.logsigmoid(torch.where(is_own, -negated, negated))
        if pairs.duplicate is not None:
            terms = terms.masked_fill(pairs.duplicate, 0)
        return -terms.sum() / len(image_rows)


def _again_in_backward(function: Callable[..., tuple[Tensor, ...]], *inputs: object) -> tuple[Tensor, ...]:
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)  # type: ignore[return-value]


def _total(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def _similarity(rows: Tensor, columns: Tensor) -> Tensor:
    """(R, D) and (M, D) -> (R, M) inner products, in float32 or better."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    return rows.to(dtype) @ columns.to(dtype).T
