"""Captions with probabilities, and shards whose rows are visited more or less than once per epoch."""

from collections import Counter

import numpy as np
import pytest

from helip.artifacts.shards import ShardIndex
from helip.data.order import AGAIN, TargetOrder
from helip.data.reader import SampleReader, random_read_rate
from helip.data.transforms import stream_seed
from helip.data.units import choose_caption
from helip.errors import HelipError
from tests.samples import open_files, sample, write_shards, write_tar


def test_captions_are_drawn_by_their_probabilities(tmp_path) -> None:
    json = b'{"alt": "short", "captions": ["one", "two"]}'
    entries = [("0", sample(0, txt=b"plain", json=json)), ("1", sample(1, txt=b"alone", json=b"{}"))]
    write_tar(tmp_path / "0.tar", entries)
    reader = SampleReader(ShardIndex.build([tmp_path / "0.tar"]), {"txt": 0.5, "captions": 0.3, "alt": 0.2})
    raw = reader.read(0)
    assert raw.captions == ("plain", "one", "two", "short")
    assert raw.weights == pytest.approx((0.5, 0.15, 0.15, 0.2))
    drawn = Counter(choose_caption(raw, stream_seed(0, epoch)) for epoch in range(4000))
    for caption, weight in zip(raw.captions, raw.weights or (), strict=True):
        assert drawn[caption] / 4000 == pytest.approx(weight, abs=0.03)
    assert reader.read(1).captions == ("alone",) and reader.read(1).weights == (1.0,)


@pytest.mark.parametrize("caption", [{}, {"txt": 0.0}, {"txt": 1.0, "alt": -1.0}])
def test_probabilities_that_are_none_are_refused(tmp_path, caption) -> None:
    index = ShardIndex.build(write_shards(tmp_path, [2]))
    with pytest.raises(HelipError, match=r"data\.caption"):
        SampleReader(index, caption)


def visits(weights, epochs: int, seed: int = 0) -> list[Counter]:
    """Rows of each epoch: shards of 4, 5 and 3 rows, of which row 1 is not live."""
    live, starts = np.ones(12, bool), np.array([0, 4, 9, 12])
    live[1] = False
    order = TargetOrder(live, starts, seed, window=2, weights=weights)
    rows = [order[position] for position in range(epochs * order.length)]
    return [Counter(row for visit, row in rows if visit % AGAIN == number) for number in range(epochs)]


def test_weights_are_visits_per_epoch() -> None:
    for epoch in visits(np.array([2.0, 1.0, 1 / 3]), 3):
        assert {row: epoch[row] for row in range(9)} == {0: 2, 1: 0, 2: 2, 3: 2, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1}
        assert sum(epoch[row] for row in (9, 10, 11)) == 1
    half = visits(np.array([1.0, 1.5, 1.0]), 40)
    total = sum(half, Counter())
    assert all(epoch[row] in (1, 2) for epoch in half for row in range(4, 9))
    assert {total[row] for row in (0, 2, 3, 9, 10, 11)} == {40}
    assert all(45 <= total[row] <= 75 for row in range(4, 9))  # rint(7.5) = 8 draws of 5 rows: 64 expected


def test_each_visit_of_a_row_in_an_epoch_has_draws_of_its_own() -> None:
    live, starts, weights = np.ones(9, bool), np.array([0, 4, 9]), np.array([2.5, 1.0])
    order = TargetOrder(live, starts, 3, window=2, weights=weights)
    seen = [order[position] for position in range(3 * order.length)]
    assert len(set(seen)) == len(seen) == 3 * 15
    heavy = Counter(visit // AGAIN for visit, row in seen if row < 4)
    assert heavy == {0: 12, 1: 12, 2: 6}  # two whole visits of four rows in each of three epochs, and half of a third
    assert all(visit == position // 15 for position, (visit, row) in enumerate(seen) if row >= 4)
    assert len({stream_seed(0, 21, visit, 1) for visit, row in seen if row == 1}) == sum(row == 1 for _, row in seen)


def test_equal_weights_change_nothing() -> None:
    assert visits(None, 2) == visits(np.ones(3), 2)


def test_read_rate(tmp_path) -> None:
    reader = SampleReader(ShardIndex.build(write_shards(tmp_path, [20])))
    before = open_files()
    assert random_read_rate(reader, np.arange(20)) > 100
    assert open_files() == before  # the caller's reader opened nothing


def test_a_shard_without_live_rows_has_no_visits_whatever_its_weight() -> None:
    live = np.array([True, True, False, False, True])
    for seed in range(6):  # in some of them the empty shards share a window with another
        order = TargetOrder(live, np.array([0, 2, 4, 4, 5]), seed, window=2, weights=np.array([1.0, 3.0, 2.0, 2.0]))
        assert sorted(order[position][1] for position in range(order.length)) == [0, 1, 4, 4]
