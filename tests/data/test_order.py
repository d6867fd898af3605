"""The order of targets: a pure function, complete, with local reads and little memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helip.data.order import TargetOrder
from helip.errors import HelipError


@st.composite
def layouts(draw) -> tuple[np.ndarray, np.ndarray]:
    """Live rows and the first row of each shard; empty shards and shards without a live row are common."""
    counts = draw(st.lists(st.integers(0, 6), min_size=1, max_size=9).filter(any))
    live = draw(st.lists(st.booleans(), min_size=sum(counts), max_size=sum(counts)).filter(any))
    return np.array(live), np.concatenate([[0], np.cumsum(counts)])


@settings(deadline=None, max_examples=60)
@given(layouts(), st.integers(0, 2**32), st.integers(1, 12))
def test_each_epoch_visits_every_live_row_once(layout, seed, window) -> None:
    live, starts = layout
    order = TargetOrder(live, starts, seed, window)
    for epoch in range(3):
        visits = [order[epoch * order.length + position] for position in range(order.length)]
        assert {e for e, _ in visits} == {epoch}
        assert sorted(row for _, row in visits) == np.flatnonzero(live).tolist()


@settings(deadline=None, max_examples=40)
@given(layouts(), st.integers(0, 9), st.integers(1, 12), st.randoms(use_true_random=False))
def test_it_is_a_pure_function_of_seed_epoch_and_position(layout, seed, window, shuffler) -> None:
    live, starts = layout
    in_order = TargetOrder(live, starts, seed, window)
    positions = list(range(3 * in_order.length))
    expected = [in_order[position] for position in positions]
    jumping = TargetOrder(live, starts, seed, window)
    shuffler.shuffle(positions)
    assert [jumping[position] for position in positions] == [expected[position] for position in positions]


def test_other_seeds_and_epochs_are_other_orders() -> None:
    live, starts = np.ones(200, bool), np.arange(0, 201, 20)
    first, again, other = (TargetOrder(live, starts, seed, 4) for seed in (0, 0, 1))
    epochs = [[first[position][1] for position in range(epoch * 200, (epoch + 1) * 200)] for epoch in range(2)]
    assert epochs[0] == [again[position][1] for position in range(200)]
    assert epochs[0] != epochs[1]
    assert epochs[0] != [other[position][1] for position in range(200)]


def test_the_order_is_the_one_that_is_documented() -> None:
    """Fixed rows, because a training of an older release must be resumed with its own order."""
    seed, window = 7, 3
    live, starts = np.random.default_rng(0).random(60) < 0.7, np.array([0, 9, 9, 20, 31, 40, 55, 58, 60])
    order = TargetOrder(live, starts, seed, window)
    expected = []
    for epoch in range(3):
        shards = np.random.default_rng([seed, 1, epoch]).permutation(8)
        for number in range(3):
            chosen = sorted(shards[3 * number : 3 * number + 3])
            rows = [row for shard in chosen for row in range(starts[shard], starts[shard + 1]) if live[row]]
            permuted = np.random.default_rng([seed, 2, epoch, number]).permutation(rows)
            expected += [(epoch, int(row)) for row in permuted]
    assert [order[position] for position in range(len(expected))] == expected


def test_two_windows_are_remembered_and_no_third(monkeypatch) -> None:
    drawn, plain = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda key: drawn.append(key) or plain(key))
    order = TargetOrder(np.ones(40, bool), np.arange(0, 41, 10), 0, 1)
    for position in (0, 10, 1, 11, 2, 12):  # of the first and the second window in turn
        order[position]
    assert drawn == [[0, 1, 0], [0, 2, 0, 0], [0, 2, 0, 1]]
    for position in (20, 13, 3):
        order[position]
    assert drawn[3:] == [[0, 2, 0, 2], [0, 2, 0, 0]]


def test_reads_stay_inside_a_window_of_shards() -> None:
    starts = np.arange(0, 1001, 50)  # 20 shards of 50 rows
    order = TargetOrder(np.ones(1000, bool), starts, 3, 4)
    shards = np.array([order[position][1] // 50 for position in range(1000)])
    windows = shards.reshape(5, 200)
    assert [len(set(window)) for window in windows] == [4] * 5
    assert not any(set(a) & set(b) for i, a in enumerate(windows) for b in windows[:i])
    mixed = (np.diff(shards) != 0).mean()
    assert mixed > 0.6  # 0.75 expected: rows of the four shards are mixed, not taken one shard after the other


def test_a_window_larger_than_the_dataset_mixes_all_of_it() -> None:
    order = TargetOrder(np.ones(30, bool), np.array([0, 10, 10, 30]), 0, 100)
    assert sorted(order[position][1] for position in range(30)) == list(range(30))


def test_nothing_live_is_an_error() -> None:
    with pytest.raises(HelipError, match="no row is left"):
        TargetOrder(np.zeros(5, bool), np.array([0, 5]), 0, 8)


def test_memory_is_that_of_a_window() -> None:
    """4 M rows in 5,000 shards: besides the mask of the caller (4 MB) the order needs less than 2 MB."""
    live, starts = np.ones(4_000_000, bool), np.arange(0, 4_000_001, 800)
    tracemalloc.start()
    order = TargetOrder(live, starts, 0, 8)
    for position in range(0, 3 * order.length, 200_003):
        order[position]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(HelipError, match="seed=-1 must be 0 or more"):
        TargetOrder(np.ones(4, bool), np.array([0, 4]), -1, 2)
