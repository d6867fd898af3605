"""A failure ends all threads; sums do not depend on the size of blocks."""

import time

import pytest
import torch

from helip.mining.stable_dot import dots
from helip.mining.workers import Stopped, Workers


def test_results_keep_their_order_and_threads_their_number():
    before = torch.get_num_threads()
    assert Workers(3).map(lambda n: (n, torch.get_num_threads()), range(20)) == [(n, 1) for n in range(20)]
    assert torch.get_num_threads() == before


def test_a_failure_ends_the_others_and_is_raised():
    workers, ended = Workers(2), []

    def work(number):
        if number == 0:
            raise RuntimeError("the first one failed")
        try:
            for _ in range(1000):
                workers.check()
                time.sleep(0.01)
        except Stopped:
            ended.append(number)
            raise

    with pytest.raises(RuntimeError, match="the first one failed"):
        workers.map(work, range(2))
    assert ended == [1]
    assert workers.map(lambda n: n, [5]) == [5], "the pool is not usable after a failure"


@pytest.mark.parametrize("width", [1, 2, 3, 7, 64, 385])
def test_dots_have_the_same_bits_alone_and_in_any_company(width):
    rng = torch.Generator().manual_seed(width)
    left, right = (torch.randn(50, width, generator=rng) for _ in (0, 1))
    together = dots(left, right)
    assert torch.equal(together, torch.cat([dots(left[i : i + 1], right[i : i + 1]) for i in range(50)]))
    assert torch.equal(together, dots(right, left))
    torch.testing.assert_close(together, (left.double() * right.double()).sum(1), rtol=1e-13, atol=1e-13)
