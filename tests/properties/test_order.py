"""The positions of a stream: each once, whatever the ranks and workers, and from wherever it is resumed."""

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from helip.data.pipeline import StepPositions


class Worker:
    def __init__(self, id: int, num_workers: int) -> None:
        self.id, self.num_workers = id, num_workers


def positions(first: int, steps: int, targets: int, rank: int, ranks: int, workers: int) -> list[int]:
    found: list[int] = []
    for worker in range(workers):
        with mock.patch("helip.data.pipeline.get_worker_info", lambda w=worker: Worker(w, workers)):
            found += list(StepPositions(first, steps, targets, rank, ranks))
    return found


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 6), st.integers(0, 9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_all_ranks_and_workers_together_read_each_position_once(first, more, own, ranks, workers) -> None:
    steps, targets = first + more, own * ranks
    together = [p for rank in range(ranks) for p in positions(first, steps, targets, rank, ranks, workers)]
    assert sorted(together) == list(range(first * targets, steps * targets))
