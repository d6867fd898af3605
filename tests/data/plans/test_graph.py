"""Graph batches: whole clusters, each row once an epoch, and refused settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helip.artifacts.partitions import Partition
from helip.data.plans.contract import TARGET, planned_step
from helip.data.plans.deal import deal
from helip.data.plans.graph import GraphPlan, GraphSettings
from helip.errors import HelipError
from tests.data.plans.graphs import data_of, topics


def plan_of(lists: np.ndarray, batch_size: int = 16, cluster: int = 4, **settings) -> GraphPlan:
    placebo = settings.pop("placebo", False)
    skip = settings.pop("skip_first", 0)
    topk = settings.pop("topk", lists.shape[1])
    return GraphSettings(topk, cluster, skip, placebo).bind(data_of(lists, batch_size, **settings))


def stream(plan: GraphPlan, count: int) -> list[int]:
    """The first rows of the training."""
    steps = -(-count // plan.batch_size)
    return [int(row) for step in range(steps) for row in planned_step(plan, step)[0]][:count]


@st.composite
def partitions(draw) -> tuple[Partition, int, int]:
    size, groups = draw(st.sampled_from([2, 3, 4, 8])), draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, size), min_size=1, max_size=60))
    rows = np.random.default_rng(draw(st.integers(0, 1 << 20))).permutation(sum(sizes)).astype(np.int32)
    return Partition(rows, np.cumsum([0, *sizes]), {}), size, size * groups


@settings(max_examples=200, deadline=None)
@given(partitions(), st.integers(0, 5), st.integers(1, 3))
def test_a_deal_has_every_row_once_and_whole_clusters(given_, epoch: int, window: int) -> None:
    partition, size, batch = given_
    count = len(partition.rows)
    assume(count >= batch)
    starts = np.array([*range(0, count, 7), count])
    rows = deal(partition, starts, batch, size, window, 3, epoch)
    assert sorted(rows.tolist()) == list(range(count))
    # a full cluster is in one batch, unless it was split for the ends of the epoch because no smaller one was left
    labels = partition.labels(count)
    batches = (epoch * count + np.arange(count)) // batch
    full = np.flatnonzero(partition.sizes == size)
    split = sum(len(np.unique(batches[labels[rows] == cluster])) > 1 for cluster in full)
    head = -epoch * count % batch % size
    assert split <= 2 and (split == 0 or (partition.sizes < size).sum() < head + (count - head) % size)


def test_each_row_once_an_epoch_and_a_new_deal_each_time() -> None:
    lists = topics(203, 5, 6)
    plan = plan_of(lists)
    rows = stream(plan, 3 * 203)
    epochs = [rows[:203], rows[203:406], rows[406:]]
    assert all(sorted(epoch) == list(range(203)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert plan.target(20, 0).number == 320 // 203


def test_a_batch_is_whole_clusters_of_hard_pairs() -> None:
    """Topics of four rows: the four are in one batch in each epoch, with other topics in the next epoch."""
    lists = topics(160, 4, 3)
    plan, beside = plan_of(lists), []
    for step in range(20):
        rows, roles = planned_step(plan, step)
        assert set(roles.tolist()) == {TARGET}
        batch = set(rows.tolist())
        assert len(batch) == 16
        for row in batch:
            assert set(lists[row].tolist()) <= batch
            assert plan.mined(row).tolist() == sorted(lists[row].tolist())
        beside.append(frozenset(batch))
    assert len(set(beside)) == 20


def test_the_same_whatever_was_asked_before() -> None:
    lists = topics(100, 5, 6)
    one, other, third = plan_of(lists), plan_of(lists), plan_of(lists, seed=1)
    places = [(step, index) for step in range(30) for index in range(16)]
    backwards = {place: other.target(*place) for place in reversed(places)}
    assert [one.target(*place) for place in places] == [backwards[place] for place in places]
    assert [one.target(*place) for place in places] != [third.target(*place) for place in places]


def test_an_unreadable_row_is_replaced_by_any_other() -> None:
    valid = np.ones(100, bool)
    valid[::7] = False
    plan = plan_of(topics(100, 5, 6), valid=valid)
    places = [plan.target(3, 2, attempt) for attempt in range(200)]
    assert places[1:] == [plan.target(3, 2, attempt) for attempt in range(1, 200)]
    assert len({visit.row for visit in places}) > 60 and all(valid[visit.row] for visit in places)
    assert {visit.number for visit in places} == {0}


def test_clusters_of_a_window_of_shards_follow_one_another() -> None:
    """Neighbours in one shard of ten rows: with a window of two shards a batch of ten reads from two."""
    lists = ((np.arange(100)[:, None] // 5 * 5) + (np.arange(100)[:, None] + np.arange(1, 5)) % 5).astype(np.int32)
    for window, most in ((1, 1), (2, 2), (100, 10)):
        plan = plan_of(lists, 10, 5, window=window)
        shards = [{row // 10 for row in planned_step(plan, step)[0].tolist()} for step in range(10)]
        assert max(len(shard) for shard in shards) <= most
        assert all(len(shards[step] | shards[step + 1]) <= max(most, 2) for step in range(0, 10, 2))


def test_skip_first() -> None:
    """Ranks 2 to 5 of an index that has all, or of one that was mined without the first two: the same partition."""
    lists = topics(100, 8, 7)
    cut = plan_of(lists, skip_first=2, topk=3)
    mined = plan_of(lists[:, 2:], skip_first=2, topk=3, skip=2)
    assert cut.mined(5).tolist() == sorted(lists[5, 2:5].tolist()) == mined.mined(5).tolist()
    assert stream(cut, 100) == stream(mined, 100) != stream(plan_of(lists, topk=3), 100)


def test_the_partition_is_kept_and_found_again(tmp_path: Path, monkeypatch) -> None:
    lists = topics(100, 5, 6)
    made = plan_of(lists, folder=tmp_path)
    (folder,) = tmp_path.glob("graph-*/")
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "begins.npy", "meta.json", "rows.npy"]
    assert Partition.load(folder).meta["inside"] == made.partition.meta["inside"] > 2
    monkeypatch.setattr("helip.data.plans.graph.grow_clusters", None)  # no second time
    assert stream(plan_of(lists, folder=tmp_path), 300) == stream(made, 300)
    monkeypatch.undo()
    others: tuple[dict[str, Any], ...] = (
        {"cluster": 8},
        {"topk": 5},
        {"valid": np.arange(100) < 90},
        {"skip_first": 1, "topk": 5},
    )
    for number, change in enumerate(others, 2):
        plan_of(lists, folder=tmp_path, **change)
        assert len(list(tmp_path.glob("graph-*/"))) == number
    plan_of(lists, folder=tmp_path, seed=5, window=1, batch_size=20, placebo=True)  # none of these changes it
    assert len(list(tmp_path.glob("graph-*/"))) == len(others) + 1


def test_a_damaged_partition_is_a_sentence(tmp_path: Path) -> None:
    plan_of(topics(100, 5, 6), folder=tmp_path)
    (folder,) = tmp_path.glob("graph-*/")
    np.save(folder / "rows.npy", np.arange(7, dtype=np.int32))
    with pytest.raises(HelipError, match=r"arrays of the partition .*: delete it"):
        plan_of(topics(100, 5, 6), folder=tmp_path)
    (folder / "rows.npy").write_bytes(b"no array")
    with pytest.raises(HelipError, match=r"the partition .* cannot be read .*: delete it"):
        plan_of(topics(100, 5, 6), folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cluster": 1}, r"helip\.cluster=1 must be at least 2"),
        ({"cluster": 32}, r"helip\.cluster=32 is more than data\.batch_size=16"),
        ({"cluster": 3}, r"data\.batch_size=16 .* multiple of helip\.cluster=3"),
        (
            {"topk": 7},
            r"helip\.skip_first=0 with helip\.topk=7 needs the ranks 0 to 7 .* stores 0 to 6.*search\.depth=7",
        ),
        ({"topk": 5, "skip_first": 2}, r"needs the ranks 2 to 7"),
        ({"topk": 5, "skip": 3}, r"needs the ranks 0 to 5 of each row, but the hard-pair index stores 3 to 9"),
        ({"topk": 0}, r"helip\.topk=0 must be at least 1"),
        ({"batch_size": 104}, r"data\.batch_size=104 is more than the 100 usable rows"),
        ({"weights": np.ones(10)}, r"set dataset\.weights=\[\]"),
    ],
)
def test_what_cannot_be(settings: dict, sentence: str) -> None:
    with pytest.raises(HelipError, match=sentence) as caught:
        plan_of(topics(100, 5, 6), **settings)
    assert "\n" not in str(caught.value)


def test_no_index_and_no_edge_are_sentences() -> None:
    with pytest.raises(HelipError, match=r"helip\.plan=graph needs mined hard pairs: set helip\.score"):
        GraphSettings(5, 4).bind(data_of(None, 8))
    ring = (np.arange(40)[:, None] + np.arange(1, 4)) % 40  # no two rows list each other
    with pytest.raises(
        HelipError, match=r"no two of the 40 rows are among each other's 3 hard pairs: raise helip\.topk"
    ):
        plan_of(ring.astype(np.int32), 8, 4)
