"""Retrieval and zero-shot metrics as pure functions on arrays; NaN, and in retrieval ties, count against the model.

The rank of a query is 1 + the number of wrong items that are *not less* similar than its best right item. A model that
gives everything the same embedding, or NaN, therefore scores 0, where `argsort` or `topk` would give it some hits.
Similarities are summed in float64 and compared in float32, because BLAS may give two equal columns different last bits,
and the place of a copy in its block would then decide a tie.

Legend: Q queries, M items, D embedding width, C classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helip.errors import HelipError
from helip.evaluation.samples import Sampled

BLOCK = 2048  # rows and columns of similarities held at once: 2048^2 float64 is 34 MB whatever Q and M are


def positive_ranks(
    queries: NDArray,
    items: NDArray,
    query_group: ArrayLike,
    item_group: ArrayLike,
    block: int = BLOCK,
) -> NDArray[np.int64]:
    """Rank of the best right item of every query; an item is right if it has the query's group.

    The other right items of a query (the remaining captions of its image) take no place in the ranking.

    Args:
        queries: (Q, D) embeddings, any float type; similarity is the plain dot product.
        items: (M, D) embeddings.
        query_group: (Q,) integers.
        item_group: (M,) integers.
        block: queries and items whose similarities are in memory together.

    Returns:
        (Q,) int64 ranks, the best is 1.

    Raises:
        HelipError: a query has no item of its group, or the lengths differ.
    """
    query_group, item_group = np.asarray(query_group), np.asarray(item_group)
    if len(queries) != len(query_group) or len(items) != len(item_group):
        raise HelipError(
            f"{len(queries)} queries with {len(query_group)} groups and {len(items)} items with {len(item_group)} "
            "groups: give one group to each row."
        )
    best = _best_positive(queries, items, query_group, item_group)  # (Q,)
    ranks = np.ones(len(queries), np.int64)
    for i in range(0, len(queries), block):
        q = slice(i, i + block)
        left = np.asarray(queries[q], np.float64)
        for j in range(0, len(items), block):
            m = slice(j, j + block)
            scores = (left @ np.asarray(items[m], np.float64).T).astype(np.float32)
            wrong = query_group[q, None] != item_group[None, m]
            ranks[q] += (wrong & ~(scores < best[q, None])).sum(1)
    return ranks


def _best_positive(queries: NDArray, items: NDArray, query_group: NDArray, item_group: NDArray) -> NDArray[np.float32]:
    """(Q,) float32 similarity of each query to its most similar right item."""
    order = np.argsort(item_group, kind="stable")
    begin = np.searchsorted(item_group[order], query_group, "left")
    end = np.searchsorted(item_group[order], query_group, "right")
    if (begin == end).any():
        raise HelipError(f"Query {int(np.argmax(begin == end))} has no item of its group: leave it out.")
    best = np.empty(len(queries), np.float32)
    for row, (first, last) in enumerate(zip(begin, end, strict=True)):
        right = np.asarray(items[order[first:last]], np.float64) @ np.asarray(queries[row], np.float64)
        best[row] = right.max()  # NaN stays NaN, so that nothing is less similar
    return best


def rank_samples(ranks: NDArray, unit: NDArray | None = None, at: Sequence[int] = (1, 5, 10)) -> dict[str, Sampled]:
    """Recall at each k (shares in 0..1), mean and median rank, with their samples."""
    found = {f"recall@{k}": Sampled(ranks <= k, unit) for k in at}
    return found | {"mean_rank": Sampled(ranks, unit), "median_rank": Sampled(ranks, unit, "median")}


def retrieval_samples(
    image: NDArray,
    text: NDArray,
    image_group: ArrayLike | None = None,
    text_group: ArrayLike | None = None,
) -> dict[str, Sampled]:
    """Image-to-text and text-to-image retrieval; an image may have several captions.

    A query is answered at k if one of its right items is among the first k, as in clip-benchmark and the CLIP papers.

    Args:
        image: (n, D) embeddings.
        text: (m, D) embeddings.
        image_group: (n,) integers; None: every row is a group of its own, and n = m.
        text_group: (m,) integers; None: as `image_group`.

    Returns:
        `i2t_recall@1`, ..., `i2t_mean_rank`, `i2t_median_rank`, and the same with `t2i_`; groups are the units.

    Raises:
        HelipError: there is nothing to rank, or a row has no counterpart.
    """
    if len(image) == 0 or len(text) == 0:
        raise HelipError("Retrieval needs at least one pair: give a part of the dataset that has readable pairs.")
    images = np.arange(len(image)) if image_group is None else np.asarray(image_group)
    texts = images if text_group is None else np.asarray(text_group)
    directions = {
        "i2t": rank_samples(positive_ranks(image, text, images, texts), images),
        "t2i": rank_samples(positive_ranks(text, image, texts, images), texts),
    }
    return {f"{name}_{key}": sampled for name, found in directions.items() for key, sampled in found.items()}


def accuracy_samples(image: NDArray, classifier: NDArray, label: ArrayLike, block: int = BLOCK) -> dict[str, Sampled]:
    """Classification accuracy: shares (0..1) of images whose class is the first, or among the first five.

    Of classes that tie the lower one comes first, as in argmax: two pairs of ImageNet's classes have the same name, and
    published figures count one class of each pair as right. NaN is never a hit.

    Args:
        image: (n, D) embeddings.
        classifier: (D, C) class embeddings, as open_clip.build_zero_shot_classifier returns them.
        label: (n,) integers in 0..C-1.
        block: images whose class scores are in memory together.

    Returns:
        `top1`, `mean_per_class` (top-1 averaged over the classes that occur), and `top5` if there are more than five
        classes.

    Raises:
        HelipError: no images, or a label outside of 0..C-1.
    """
    label = np.asarray(label)
    classes = classifier.shape[1]
    if len(image) == 0:
        raise HelipError("Accuracy needs at least one image: give a set that has readable images.")
    if len(label) != len(image) or label.min() < 0 or label.max() >= classes:
        raise HelipError(f"{len(image)} images need {len(image)} labels in 0..{classes - 1}: check labels and classes.")
    weights = np.asarray(classifier, np.float64)
    ranks = np.empty(len(image), np.int64)
    for i in range(0, len(image), block):
        rows = slice(i, i + block)
        scores = (np.asarray(image[rows], np.float64) @ weights).astype(np.float32)  # (block, C)
        true = np.take_along_axis(scores, label[rows, None], 1)
        ahead = np.where(np.arange(classes) < label[rows, None], ~(scores < true), ~(scores <= true))
        ranks[rows] = 1 + ahead.sum(1) - np.isnan(true[:, 0])  # NaN counts as ahead of itself
    hit = ranks == 1
    found = {"top1": Sampled(hit), "mean_per_class": Sampled(hit, label=label)}
    return found | ({"top5": Sampled(ranks <= 5)} if classes > 5 else {})
