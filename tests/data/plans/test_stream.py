"""Graph batches through the stream: workers, ranks, interruptions and unreadable rows change no place of a row."""

import pytest
import torch

from helip.artifacts.shards import ShardIndex
from helip.data.plans.contract import PlanData, planned_step
from helip.data.plans.graph import GraphSettings
from helip.data.reader import SampleReader
from helip.data.units import UnitReader
from tests.data.plans.graphs import index_of, topics
from tests.data.streams import batches, noisy, same, tokenize
from tests.samples import sample, write_shards, write_tar

STEPS, BATCH = 9, 8


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> UnitReader:
    """26 rows, one of them unreadable, so that an epoch ends inside a batch."""
    folder = tmp_path_factory.mktemp("shards")
    bad = [("x", sample(90, jpg=b"broken")), ("y", sample(91)), ("z", sample(92))]
    shards = [*write_shards(folder, [9, 5, 9]), write_tar(folder / "00003.tar", bad)]
    index = ShardIndex.build(shards)
    data = PlanData(index.valid, index.starts, BATCH, window=2, hard=index_of(topics(26, 4, 5)))
    return UnitReader(SampleReader(index, "captions"), GraphSettings(5, 4).bind(data), noisy, tokenize, 0)


@pytest.fixture(scope="module")
def alone(read: UnitReader) -> list:
    return batches(read, STEPS, BATCH)


def test_the_stream_is_the_plan(read: UnitReader, alone: list) -> None:
    for step, batch in enumerate(alone):
        rows, _ = planned_step(read.plan, step)
        assert batch["target"].tolist() == list(range(BATCH)) and batch["mined"].shape == (BATCH, 5)
        assert batch["replaced"] == sum(rows == 23)
        assert [row for row in rows.tolist() if row != 23] == [
            row for row, planned in zip(batch["row"].tolist(), rows.tolist(), strict=True) if planned != 23
        ]
        assert 23 not in batch["row"].tolist()


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_same_global_batch(read: UnitReader, alone: list, world: int) -> None:
    ranks = [batches(read, STEPS, BATCH, rank=rank, world=world) for rank in range(world)]
    for step, whole in enumerate(alone):
        for name in ("row", "text", "image", "identity", "mined"):
            assert torch.equal(torch.cat([rank[step][name] for rank in ranks]), whole[name])


def test_workers_and_resuming_change_nothing(read: UnitReader, alone: list) -> None:
    several = batches(read, STEPS, BATCH, workers=2)
    rest = batches(read, STEPS, BATCH, first=4, workers=2)
    assert all(same(one, other) for one, other in zip(alone, several, strict=True))
    assert all(same(one, other) for one, other in zip(alone[4:], rest, strict=True))
