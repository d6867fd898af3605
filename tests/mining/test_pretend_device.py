"""Mining without Triton on a pretend GPU: no operation between devices, the bytes of the CPU, few waits."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.crowds import with_crowd
from benchmarks.synthetic import clustered
from helip.mining import sweep
from helip.mining.exact import ExactSearch
from helip.mining.rescore import Ranked
from helip.mining.settings import SearchSettings
from helip.mining.sweep import Shape
from helip.mining.vectors import Pairs, open_pairs
from tests.mining.results import assert_same
from tests.pretend import pretend_gpu

COUNT = 700
RULES: list[dict[str, Any]] = [
    {},
    {"score": "image", "skip_first": 3},
    {"score": "text"},
    {"min_similarity": 0.3, "near_duplicate": 0.9},
]


def same_as_on_the_cpu(monkeypatch, pairs: Pairs, rules: dict[str, Any], memory: int = 1 << 30) -> Ranked:
    """With `memory` free bytes on the card; rows that do not fit are streamed."""
    settings = SearchSettings(depth=10, **rules)
    plain = ExactSearch(pairs, settings, torch.float32).search(range(len(pairs)))
    monkeypatch.setattr("helip.mining.exact.shape_on", lambda device: Shape(256, 256 * 128, 128, 64))
    with pretend_gpu(monkeypatch, memory=memory):
        found = ExactSearch(pairs, settings, torch.bfloat16, "cuda").search(range(len(pairs)))
    assert_same(plain, found)
    return found


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_a_search_on_a_gpu_without_triton(monkeypatch, rules):
    image, text = clustered(COUNT, 40, 24, seed=3, copies=0.1)
    pairs = open_pairs(image, text, text_group=np.arange(COUNT) // 3, pair_group=np.arange(COUNT) // 2)
    same_as_on_the_cpu(monkeypatch, pairs, rules)


def test_with_rows_that_are_streamed_and_a_crowd(monkeypatch, set_room):
    set_room(150)
    image, text = clustered(COUNT, 40, 24, seed=3, copies=0.0)
    copied, group = with_crowd(image, 0.3)
    valid = np.random.default_rng(0).random(COUNT) > 0.1
    pairs = open_pairs(copied, text, valid=valid, image_group=group)
    found = same_as_on_the_cpu(monkeypatch, pairs, {}, memory=1 << 10)
    assert found.redone == 0


def test_a_block_of_plain_products_waits_once(monkeypatch):
    """For the number of pairs above the thresholds; work per doubling of the candidates is not counted."""
    image, text = clustered(COUNT, 40, 24, seed=3)
    pairs, settings = open_pairs(image, text), SearchSettings(depth=10)
    monkeypatch.setattr("helip.mining.exact.shape_on", lambda device: Shape(256, 256 * 128, 128, 64))
    waits: list[list[str]] = []
    with pretend_gpu(monkeypatch) as device:
        meet = sweep.Sweep.meet

        def counted(*arguments: Any) -> None:
            device.waits.clear()
            meet(*arguments)
            waits.append(list(device.waits))

        monkeypatch.setattr(sweep.Sweep, "meet", counted)
        ExactSearch(pairs, settings, torch.bfloat16, "cuda").search(range(COUNT))
    assert len(waits) > 20 and waits == [["aten.nonzero.default"]] * len(waits)
