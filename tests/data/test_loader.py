"""The loader for other training loops: targets and partners. test_api.py runs the example of docs/api.md."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.loader import hard_pair_loader
from helip.data.transforms import ImageTransform
from helip.errors import HelipError
from tests.data.streams import tokenize
from tests.samples import write_shards


def pairs_of(index: ShardIndex, rows: np.ndarray) -> HardPairIndex:
    scores = (rows >= 0).astype(np.float32)
    return HardPairIndex(rows.astype(np.int32), scores, scores, scores, {"fingerprint": index.fingerprint})


def visited(index: ShardIndex, rows: np.ndarray, steps: int, topk: int) -> set[tuple[int, int]]:
    transform: ImageTransform = lambda image: torch.zeros(3, 8, 8)  # noqa: E731
    loader = hard_pair_loader(index, pairs_of(index, rows), transform, tokenize, batch_size=2, steps=steps, topk=topk)
    return {tuple(batch["row"].tolist()) for batch in loader}


def test_a_partner_without_hard_pairs_of_its_own_is_drawn(tmp_path: Path) -> None:
    """Imported lists, or those of a random pool: rows 0 to 3 are targets, 4 to 11 only partners."""
    index = ShardIndex.build(write_shards(tmp_path, [12]))
    rows = np.full((12, 3), -1)
    rows[:4] = [[4, 5, 0], [5, 6, 7], [7, 4, 3], [8, 11, 9]]
    pairs = {(target, int(partner)) for target in range(4) for partner in rows[target, :2]}
    assert visited(index, rows, 80, 2) == pairs
    index.valid[[4, 5]] = False
    assert visited(index, rows, 80, 2) == {pair for pair in pairs if pair[1] not in (4, 5)}  # 0 has no partner left


def test_numbers_that_cannot_be_are_an_error(tmp_path: Path) -> None:
    """A rank counted from 1 would train on targets of the next step, which other ranks use too."""
    index = ShardIndex.build(write_shards(tmp_path, [6]))
    pairs = pairs_of(index, (np.arange(6)[:, None] + 1) % 6)
    arguments: dict[str, Any] = {"batch_size": 4, "steps": 1, "topk": 1}
    for change, sentence in (
        ({"rank": 2, "world_size": 2}, "rank=2 of world_size=2: ranks count from 0"),
        ({"rank": -1}, "rank=-1 of world_size=1"),
        ({"world_size": 0}, "rank=0 of world_size=0"),
        ({"window": 0}, "window=0 must be 1 or more"),
        ({"p": -1}, "p=-1 must be 0 or more"),
        ({"steps": -1}, "steps=-1 must be 0 or more"),
        ({"first_step": -1}, "first_step=-1 must be 0 or more"),
        ({"batch_size": 3}, r"^batch_size=3 must be a multiple of 2 .*with p=1"),
    ):
        with pytest.raises(HelipError, match=sentence):
            hard_pair_loader(index, pairs, torch.as_tensor, tokenize, **{**arguments, **change})
    fewer = pairs_of(index, np.array([[1], [0]]))
    with pytest.raises(HelipError, match="hard pairs have 2 rows, but the shards have 6: mine one embedding per row"):
        hard_pair_loader(index, fewer, torch.as_tensor, tokenize, **arguments)


def test_targets_that_nobody_can_stand_beside_are_an_error(tmp_path: Path) -> None:
    index = ShardIndex.build(write_shards(tmp_path, [12]))
    rows = np.full((12, 1), -1)
    rows[:4, 0] = [4, 5, 6, 7]
    index.valid[4:7] = False
    with pytest.raises(HelipError, match="75% of the targets"):
        visited(index, rows, 1, 1)
