"""Contrastive loss over the global batch plus the hard negative margin loss (HNML) of HELIP, arXiv 2305.05208.

    loss = l_CLIP + gamma * l_margin
    l_margin = mean over targets i of  sum_{j in N_i} max(0, s(i, j) - min_{h in H_i} s(i, h)) / |N_i|

The margin reads the similarity matrix that the contrastive term has already paid for. Each rank holds the rows of its
own pairs against all columns, gathered *with* gradient: DDP's average over ranks is then exactly the gradient of the
same batch on one process (the tests show it), also when ranks hold different numbers of targets.

Legend: B pairs of this rank, M pairs of the global batch, D embedding width, k mined rows per target.
"""

import torch
import torch.nn.functional as F
from torch import nn

from helip.errors import HelipError
from helip.training.gather import check_process_group, gather_features
from helip.training.pairs import Pairs, describe_pairs


class HelipLoss(nn.Module):
    """CLIP's symmetric cross-entropy plus HNML.

    Without duplicates and with margin_weight 0 value and gradient are those of
    open_clip.loss.ClipLoss(local_loss=True, gather_with_grad=True). The value is this rank's part: its mean over ranks
    is the loss of the global batch.

    Args:
        margin_weight: gamma, the weight of HNML; 0 leaves it out.
        symmetric: add the text-to-image twin to the image-to-text margin (their sum, as the paper's is one of them).
        mask_duplicates: known duplicates (see `identity`) are nobody's negatives, in both terms.
        rank: this process among `world_size`; may be set later, as attributes.
        world_size: processes that hold a part of the batch, all of the same size B.
    """

    contrastive_name = "clip_loss"
    needs_text_rows = True

    def __init__(
        self,
        margin_weight: float = 1.0,
        symmetric: bool = False,
        mask_duplicates: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        if margin_weight < 0:
            raise HelipError(f"helip.margin_weight is {margin_weight}: give 0 or a positive weight")
        self.margin_weight = float(margin_weight)
        self.symmetric = symmetric
        self.mask_duplicates = mask_duplicates
        self.rank = rank
        self.world_size = world_size

    def forward(
        self,
        image_features: torch.Tensor,
        text_features: torch.Tensor,
        logit_scale: torch.Tensor,
        target: torch.Tensor,
        identity: torch.Tensor | None = None,
        mined: torch.Tensor | None = None,
        logit_bias: torch.Tensor | None = None,
        statistics: bool = True,
    ) -> dict[str, torch.Tensor]:
        """Loss terms of this rank's rows.

        Args:
            image_features: (B, D) L2-normalised, any floating type; similarities and logits are at least float32.
            text_features: (B, D) likewise.
            logit_scale: () the factor itself (open_clip models return it exponentiated).
            target: (B,) int64: own position (a target), its target's position (a hard pair), -1 (filler).
            identity: (B, C) int64: row, then digests of image and caption; equal in any column = known duplicate.
            mined: (B, k) int64 rows of a target's mined top k, -1 padded: in the batch, they are no normal negatives.
            logit_bias: () added to the logits; required by SigLIP.
            statistics: also return what `batch_statistics` lists.

        Returns:
            Scalars; those whose name ends in `_loss` sum to the loss and carry the gradient, the others are detached.

        Raises:
            HelipError: if shapes do not agree, or torch.distributed runs with another rank or world size.
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
        pairs = describe_pairs(target, identity, mined, self.mask_duplicates, self.rank, self.world_size)
        with torch.autocast(image_features.device.type, enabled=False):
            image_rows = _similarity(image_features, all_text)  # (B, M)
            text_rows = image_rows
            if self.needs_text_rows or self.symmetric:
                text_rows = _similarity(text_features, all_image)  # (B, M)
            result = {self.contrastive_name: self.contrastive(image_rows, text_rows, logit_scale, logit_bias, pairs)}
            margin = image_rows.new_zeros(())
            if self.margin_weight > 0:
                margin = hard_negative_margin(image_rows, pairs)
                if self.symmetric:
                    margin = margin + hard_negative_margin(text_rows, pairs)
                # DDP averages over ranks while the mean runs over all targets, wherever they are.
                margin = margin * (self.margin_weight * self.world_size)
        result["margin_loss"] = margin
        if statistics:
            result |= batch_statistics(image_rows, pairs)
        return result

    def contrastive(
        self,
        image_rows: torch.Tensor,
        text_rows: torch.Tensor,
        logit_scale: torch.Tensor,
        logit_bias: torch.Tensor | None,
        pairs: Pairs,
    ) -> torch.Tensor:
        """Mean over this rank's pairs of the two cross-entropies; (B, M) similarities of images and of texts."""
        total = image_rows.new_zeros(())
        for rows in (image_rows, text_rows):
            logits = logit_scale * rows
            if logit_bias is not None:  # changes no softmax, but leaves no parameter unused under DDP
                logits = logits + logit_bias
            if pairs.duplicate is not None:
                logits = logits.masked_fill(pairs.duplicate, -torch.inf)  # the positive itself is never masked
            total = total + F.cross_entropy(logits, pairs.own)
        return total / 2


class HelipSigLipLoss(HelipLoss):
    """SigLIP's pairwise sigmoid loss (arXiv 2303.15343) plus HNML; equals open_clip.loss.SigLipLoss without masks.

    Known duplicates are left out: they are neither positives nor negatives.
    """

    contrastive_name = "siglip_loss"
    needs_text_rows = False

    def contrastive(
        self,
        image_rows: torch.Tensor,
        text_rows: torch.Tensor,
        logit_scale: torch.Tensor,
        logit_bias: torch.Tensor | None,
        pairs: Pairs,
    ) -> torch.Tensor:
        """Sum over the global batch's pairs, per pair of this rank; (B, M) similarities of images."""
        if logit_bias is None:
            raise HelipError(
                "the model has no logit_bias, which SigLIP's loss needs: use a SigLIP model or init_logit_bias"
            )
        negated = -(logit_scale * image_rows + logit_bias)
        is_own = torch.zeros_like(negated, dtype=torch.bool).scatter_(1, pairs.own[:, None], True)
        terms = F.logsigmoid(torch.where(is_own, -negated, negated))
        if pairs.duplicate is not None:
            terms = terms.masked_fill(pairs.duplicate, 0)
        return -terms.sum() / len(image_rows)


def hard_negative_margin(similarity: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """HNML: this rank's part of the mean over the targets of the global batch; parts of all ranks sum to the mean.

    A target without a live hard pair has an infinite bar, so it adds exactly 0 and a gradient of exactly 0.

    Args:
        similarity: (B, M) cosines of this rank's pairs against the global batch.
        pairs: the roles of the columns.
    """
    none = similarity.new_tensor(torch.inf)
    of_pair = torch.where(pairs.hard, similarity[pairs.owner, pairs.own], none)  # (B,)
    bar = none.repeat(len(similarity)).scatter_reduce(0, pairs.owner, of_pair, "amin")[:, None]  # (B, 1)
    excess = torch.where(pairs.normal & (similarity > bar), similarity - bar, 0)  # (B, M)
    per_target = excess.sum(1) / pairs.normal.sum(1).clamp(min=1)
    return per_target.sum() / pairs.targets


@torch.no_grad()
def batch_statistics(similarity: torch.Tensor, pairs: Pairs) -> dict[str, torch.Tensor]:
    """The picture of what HNML does, for this rank's targets, from (B, M) cosines of images against texts.

    Accuracies depend on the batch size and on the share of hard pairs: compare them within a run only.

    Returns:
        masked_pairs: (row, column) entries masked as known duplicates.
        similarity_{positive,hard,normal}: mean cosine; NaN where the batch has none.
        accuracy_{normal,hard}: share of targets whose own caption beats all normal negatives / all their hard pairs.
    """
    local = torch.arange(len(similarity), device=similarity.device)
    positive = similarity[local, pairs.own]  # (B,)
    of_pair = similarity[pairs.owner, pairs.own]  # (B,)
    lowest = torch.full_like(positive, -torch.inf)
    best_hard = lowest.scatter_reduce(0, pairs.owner, torch.where(pairs.hard, of_pair, -torch.inf), "amax")
    best_normal = similarity.masked_fill(~pairs.normal, -torch.inf).amax(1)
    has_hard, has_normal = best_hard > -torch.inf, best_normal > -torch.inf
    duplicate = pairs.normal.new_zeros(()) if pairs.duplicate is None else pairs.duplicate
    return {
        "masked_pairs": duplicate.sum(),
        "similarity_positive": _mean(positive, pairs.is_target),
        "similarity_hard": _mean(of_pair, pairs.hard),
        "similarity_normal": _mean(similarity, pairs.normal),
        "accuracy_normal": _mean((positive > best_normal).float(), has_normal),
        "accuracy_hard": _mean((positive > best_hard).float(), has_hard),
    }


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return torch.where(where, values, 0).sum() / where.sum()


def _similarity(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(B, D) and (M, D) -> (B, M) inner products, in float32 or better."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    return rows.to(dtype) @ columns.to(dtype).T
