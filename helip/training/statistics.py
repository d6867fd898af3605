"""Statistics of a batch for the log, from the similarities of the loss.

Legend: B pairs of this rank, R of them in a block, M pairs of the global batch.
"""

import torch
from torch import Tensor

from helip.training.batch_roles import Pairs
from helip.training.margins import Block

MEANS = (
    "similarity_positive", "similarity_hard", "similarity_normal", "accuracy_normal", "accuracy_hard",
    "masked_share", "false_negative_suspects",
)  # fmt: skip


@torch.no_grad()
def block_sums(block: Block, offset: Tensor | None) -> Tensor:
    """Sums and counts of a block, which add up over blocks.

    Args:
        block: with its text_rows.
        offset: (R, M) values that a margin adds to the similarities, or None.

    Returns:
        (1 + len(MEANS), 2): the masked entries, then sum and count of each mean; one more line for the mean of an
        offset.
    """
    pairs, similarity = block.pairs, block.image_rows
    row = torch.arange(len(similarity), device=similarity.device)
    positive = similarity[row, pairs.own]  # (R,)
    of_pair = similarity[pairs.owner, pairs.column]  # (B,)
    lowest = torch.full_like(positive, -torch.inf)
    best_hard = lowest.scatter_reduce(0, pairs.owner, torch.where(pairs.hard, of_pair, -torch.inf), "amax")
    best_normal = similarity.masked_fill(~pairs.normal, -torch.inf).amax(1)
    negative = kept_negatives(pairs)
    bar = positive[:, None]
    suspects = negative & (similarity > bar) & (block.text_rows > bar)
    everything = similarity.new_ones(())
    masked = everything * 0 if pairs.duplicate is None else pairs.duplicate.sum()
    sums = [
        (masked, everything),
        _sum(positive, pairs.is_target),
        _sum(of_pair, pairs.hard),
        _sum(similarity, pairs.normal),
        _sum((positive > best_normal).to(positive.dtype), best_normal > -torch.inf),
        _sum((positive > best_hard).to(positive.dtype), best_hard > -torch.inf),
        (masked, everything * max(1, similarity.numel() - len(similarity))),
        (suspects.sum(), everything * len(similarity)),
        *([] if offset is None else [(offset.sum(), negative.sum())]),
    ]
    return torch.stack([torch.stack([value.to(similarity.dtype) for value in line]) for line in sums])


def batch_statistics(sums: Tensor) -> dict[str, Tensor]:
    """Statistics of this rank's rows from the sums of all its blocks.

    Accuracies and suspects depend on the batch size and on the share of hard pairs: compare them only within a run.

    Returns:
        masked_pairs: (row, column) entries masked as known duplicates.
        masked_share: of all entries off the diagonal.
        similarity_{positive,hard,normal}: mean cosine; NaN where the batch has none.
        accuracy_{normal,hard}: share of targets whose own caption beats all normal negatives / all their hard pairs.
        false_negative_suspects: negatives per pair, without known duplicates, that match it better than its own image
            and caption match, in both directions.
        margin_mean: mean of the values that a margin adds to the similarities of negatives, if it does.
    """
    names = MEANS if len(sums) == 1 + len(MEANS) else (*MEANS, "margin_mean")
    means = sums[1:, 0] / sums[1:, 1]
    return {"masked_pairs": sums[0, 0], **dict(zip(names, means.unbind(), strict=True))}


def kept_negatives(pairs: Pairs) -> Tensor:
    """(R, M) bool: every column except the row's own pair and its known duplicates."""
    kept = torch.ones_like(pairs.normal) if pairs.duplicate is None else ~pairs.duplicate
    return kept.scatter(1, pairs.own[:, None], False)


def _sum(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(where, values, 0).sum(), where.sum()
