"""Each schedule draws by its rule, as a pure function of seed, epoch, row and progress."""

import numpy as np
import pytest

from helip.data.partners import MinedPartners
from helip.data.schedules import Anneal, Schedule, Score, Uniform
from tests.data.streams import batches, ring, same, unit_reader
from tests.samples import write_shards

LIVE = np.array([7, 3, 9, 1])
SCORES = np.array([0.6, 0.2, 0.15, 0.05], np.float32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), [5, 7])


def first_drawn(schedule: Schedule, progress: float = 0.0, p: int = 1, times: int = 4000) -> np.ndarray:
    """(n, p) shares of how often each live row stands at each of the first p places."""
    generator = np.random.default_rng(0)
    orders = np.array([schedule.order(LIVE, SCORES, progress, p, generator)[:p] for _ in range(times)])
    return (orders[:, :, None] == LIVE).mean(0).T


def test_uniform() -> None:
    np.testing.assert_allclose(first_drawn(Uniform())[:, 0], 0.25, atol=0.03)


def test_score_draws_in_proportion_and_without_replacement() -> None:
    shares = first_drawn(Score(), p=2)
    np.testing.assert_allclose(shares[:, 0], SCORES, atol=0.03)
    # second place: sum over first draws j != i of s_j * s_i / (1 - s_j)
    second = [sum(SCORES[j] * SCORES[i] / (1 - SCORES[j]) for j in range(4) if j != i) for i in range(4)]
    np.testing.assert_allclose(shares[:, 1], second, atol=0.03)


def test_anneal_goes_from_all_to_the_best() -> None:
    np.testing.assert_allclose(first_drawn(Anneal(), 0.0)[:, 0], 0.25, atol=0.03)
    np.testing.assert_allclose(first_drawn(Anneal(), 0.5)[:, 0], [0.5, 0.5, 0, 0], atol=0.03)
    np.testing.assert_allclose(first_drawn(Anneal(), 1.0)[:, 0], [1, 0, 0, 0])
    assert set(np.flatnonzero(first_drawn(Anneal(), 1.0, p=2)[:, 0])) == {0, 1}  # p rows are always left to choose from


@pytest.mark.parametrize("schedule", [Uniform(), Score(), Anneal()])
def test_an_order_holds_every_live_row_once(schedule: Schedule) -> None:
    for progress in (0.0, 0.4, 1.0):
        order = schedule.order(LIVE, SCORES, progress, 1, np.random.default_rng(1))
        assert sorted(order) == sorted(LIVE)


@pytest.mark.parametrize("schedule", [Score(), Anneal()])
def test_the_stream_does_not_depend_on_workers(shards, schedule: Schedule) -> None:
    def read():
        rows = ring(12)
        scores = np.tile(np.array([0.9, 0.5, 0.3, 0.1], np.float32), (len(rows), 1))
        return unit_reader(shards, MinedPartners(rows, np.ones(12, bool), 1, 0, "drop", 1, schedule, scores), steps=6)

    streams = [batches(read(), 6, 4, workers=workers) for workers in (0, 2)]
    assert all(same(one, other) for one, other in zip(*streams, strict=True))
    last = streams[0][-1]
    distance = (last["row"][4:] - last["row"][:4]) % len(read().index)
    assert schedule == Score() or set(distance.tolist()) == {1}  # at the end, anneal draws only the best
