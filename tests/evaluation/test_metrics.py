"""Metrics; a comment beside each expected value derives it."""

from typing import Literal

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.retrieval import RetrievalHitRate

from helip.errors import HelipError
from helip.evaluation.metrics import accuracy_samples, positive_ranks, rank_samples, retrieval_samples
from helip.evaluation.samples import values_of

EYE4 = np.eye(4)


def retrieval(*arguments):
    return values_of(retrieval_samples(*arguments))


def accuracy(*arguments):
    return values_of(accuracy_samples(*arguments))


# Scores of 4 images against 8 captions, two captions (2i, 2i+1) to each image i.
SCORES = np.array(
    [
        [0.9, 0.1, 0.5, 0.9, 0.0, 0.2, 0.3, 0.4],
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
        [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    ]
)
IMAGES, CAPTIONS = np.arange(4), np.repeat(np.arange(4), 2)


def test_image_to_text_ranks_of_a_written_matrix():
    # image 0: best own 0.9; of the six wrong ones only caption 3 is >= 0.9 (a tie) -> 2
    # image 1: best own 0.7; wrong ones >= 0.7: 0.9 and 0.8 -> 3
    # image 2: best own 0.1; all six wrong ones tie -> 7
    # image 3: best own 0.7; no wrong one reaches it -> 1
    assert positive_ranks(EYE4, SCORES.T, IMAGES, CAPTIONS).tolist() == [2, 3, 7, 1]


def test_text_to_image_ranks_of_a_written_matrix():
    # Columns: (.9 .9 .1 0) own image 0, image 1 ties -> 2        (.1 .8 .1 .1) own 0: image 1 above, 2 and 3 tie -> 4
    #          (.5 .7 .1 .2) own image 1 -> 1                     (.9 .6 .1 .3) own 1: image 0 above -> 2
    #          (0 .5 .1 .4) own 2: images 1 and 3 above -> 3      (.2 .4 .1 .5) own 2: all three above -> 4
    #          (.3 .3 .1 .6) own 3 -> 1                           (.4 .2 .1 .7) own 3 -> 1
    assert positive_ranks(SCORES.T, EYE4, CAPTIONS, IMAGES).tolist() == [2, 4, 1, 2, 3, 4, 1, 1]


def test_both_directions_together():
    got = retrieval(EYE4, SCORES.T, IMAGES, CAPTIONS)
    assert got["i2t_recall@1"] == 1 / 4 and got["i2t_recall@5"] == 3 / 4 and got["i2t_recall@10"] == 1
    assert got["i2t_mean_rank"] == (2 + 3 + 7 + 1) / 4 and got["i2t_median_rank"] == 2.5  # 1 2 | 3 7
    assert got["t2i_recall@1"] == 3 / 8 and got["t2i_recall@5"] == 1
    assert got["t2i_mean_rank"] == 18 / 8 and got["t2i_median_rank"] == 2  # 1 1 1 2 | 2 3 4 4


def test_groups_decide_whether_a_repeated_caption_is_wrong():
    # Rows 0 and 1 carry the same caption and the same text embedding.
    image = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    text = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert retrieval(image, text)["i2t_recall@1"] == 1 / 3  # the copy ties and counts against rows 0 and 1
    assert retrieval(image, text, np.array([7, 7, 3]))["i2t_recall@1"] == 1


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_collapsed_model_retrieves_nothing(value):
    same = np.full((6, 3), value, np.float32)
    got = retrieval(same, same)
    assert got["i2t_recall@5"] == 0 and got["t2i_median_rank"] == 6


def test_a_model_of_nan_recognises_nothing():
    assert accuracy(np.full((6, 3), np.nan), np.eye(3, 7), np.arange(6))["top5"] == 0
    assert accuracy(np.eye(3), np.full((3, 7), np.nan), np.array([0, 1, 2]))["top5"] == 0


def plain_ranks(queries, items, query_group, item_group):
    """The ranks of one query at a time, over all scores."""
    scores = (queries.astype(np.float64) @ items.astype(np.float64).T).astype(np.float32)
    ranks = []
    for row, group in zip(scores, query_group, strict=True):
        best = max(row[item_group == group])
        ranks.append(1 + sum(score >= best for score in row[item_group != group]))
    return ranks


@pytest.mark.parametrize("block", [1, 7, 64, 2048])
def test_uneven_blocks_equal_the_plain_ranking(block):
    rng = np.random.default_rng(0)
    # Whole numbers make many exact ties.
    image = rng.integers(-2, 3, (37, 4)).astype(np.float32)
    text = rng.integers(-2, 3, (111, 4)).astype(np.float32)
    groups, captions = np.arange(37) + 100, rng.permutation(np.repeat(np.arange(37), 3)) + 100
    assert positive_ranks(image, text, groups, captions, block).tolist() == plain_ranks(image, text, groups, captions)
    assert positive_ranks(text, image, captions, groups, block).tolist() == plain_ranks(text, image, captions, groups)


def test_copies_tie_wherever_they_stand():
    # In float32 the last bit of a dot product depends on the block's shape; copies must tie in every block.
    rng = np.random.default_rng(1)
    one = rng.normal(size=(1, 257)).astype(np.float32)
    assert set(positive_ranks(one, np.repeat(one, 301, 0), [0], np.arange(301), block=16)) == {301}


def test_recall_equals_torchmetrics_where_nothing_ties():
    rng = np.random.default_rng(2)
    image, text = rng.normal(size=(20, 6)), rng.normal(size=(20, 6))
    got = retrieval(image, text)
    scores = torch.tensor(image @ text.T)
    for k in (1, 5, 10):
        metric = RetrievalHitRate(top_k=k)
        queries = torch.arange(20)[:, None].expand(20, 20)
        expected = metric(scores.flatten(), torch.eye(20, dtype=torch.long).flatten(), indexes=queries.flatten())
        assert got[f"i2t_recall@{k}"] == pytest.approx(float(expected))


def test_accuracy_of_a_written_matrix():
    # 4 images, 8 classes; the image embeddings are unit vectors, so the classifier's rows are the scores.
    # label 3: 0.9 ties with class 0, the lower -> rank 2; label 0: 0.9 alone on top -> rank 1;
    # label 5: all eight tie, five of them lower -> rank 6; label 6: 0.6, class 7 above -> rank 2
    label = np.array([3, 0, 5, 6])
    got = accuracy(EYE4, SCORES, label)
    assert got["top1"] == 1 / 4 and got["top5"] == 3 / 4
    assert got["mean_per_class"] == pytest.approx((1 + 0 + 0 + 0) / 4)  # classes 0, 3, 5 and 6 occur
    assert accuracy(EYE4, SCORES, [0, 0, 0, 7])["top1"] == 1  # the lower of the tied wins


@pytest.mark.parametrize("block", [3, 2048])
def test_accuracy_equals_torchmetrics_where_nothing_ties(block):
    rng = np.random.default_rng(3)
    image, weights, label = rng.normal(size=(50, 5)), rng.normal(size=(5, 9)), rng.integers(0, 9, 50)
    got = accuracy(image, weights, label, block)
    scores, truth = torch.tensor(image @ weights), torch.tensor(label)
    averages: dict[str, tuple[int, Literal["micro", "macro"]]]
    averages = {"top1": (1, "micro"), "top5": (5, "micro"), "mean_per_class": (1, "macro")}
    for key, (k, average) in averages.items():
        assert got[key] == pytest.approx(float(MulticlassAccuracy(9, k, average)(scores, truth)))


def test_mean_per_class_carries_its_classes_and_not_their_sizes():
    # Class 0 three times, class 1 once, all right: resampled, the metric stays 1 whatever the classes' sizes are.
    found = accuracy_samples(np.eye(2)[[0, 0, 0, 1]], np.eye(2), [0, 0, 0, 1])["mean_per_class"]
    assert found.values.tolist() == [1] * 4 and found.label is not None and found.label.tolist() == [0, 0, 0, 1]


def test_five_classes_have_no_top5():
    assert set(accuracy(np.eye(5), np.eye(5), np.arange(5))) == {"top1", "mean_per_class"}


def test_rank_samples():
    assert values_of(rank_samples(np.array([1, 2, 9]), at=(1, 2))) == {
        "recall@1": 1 / 3,
        "recall@2": 2 / 3,
        "mean_rank": 4.0,
        "median_rank": 2.0,
    }


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: retrieval(EYE4[:0], EYE4[:0]), "at least one pair"),
        (lambda: retrieval(EYE4, EYE4, [0, 1, 2, 3], [0, 1, 2, 9]), "Query 3 has no item"),
        (lambda: retrieval(EYE4, EYE4[:3]), "one group to each row"),
        (lambda: accuracy(EYE4, EYE4, [0, 1, 2, 4]), r"labels in 0\.\.3"),
        (lambda: accuracy(EYE4[:0], EYE4, []), "at least one image"),
    ],
)
def test_bad_input_is_one_sentence(call, words):
    with pytest.raises(HelipError, match=words):
        call()
