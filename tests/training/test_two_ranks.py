"""Gradients on two and four gloo processes against one; wrong variants have the right loss, but wrong gradients."""

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from tests.reference_losses import helip_loss
from tests.training.two_ranks import CASES, IN_PARTS, LOCKED, Towers, global_batch, locked, rank_batch, run_case, worker

COUNTS = {"masked_pairs"}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    return run_ranks(folder, 2)


@pytest.fixture(scope="module")
def four_ranks(tmp_path_factory):
    return run_ranks(tmp_path_factory.mktemp("four"), 4)


def run_ranks(folder, world):
    spawn(worker, args=(f"file://{folder / 'store'}", folder, world), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_are_those_of_one_process(ranks, case):
    compare(ranks, case)


@pytest.mark.parametrize("case", CASES)
def test_four_ranks_as_well(four_ranks, case):
    compare(four_ranks, case)


@pytest.mark.parametrize("case", IN_PARTS)
def test_batches_in_parts(ranks, four_ranks, case):
    """Gradients of the global batch, in float64, with micro-batches of three of each rank's ten pairs."""
    compare(ranks, case, f"{case} in parts")
    compare(four_ranks, case, f"{case} in parts")


@pytest.mark.parametrize("case", LOCKED)
def test_a_locked_tower(ranks, four_ranks, case):
    compare(ranks, case, f"{case} locked", locked(Towers()))
    compare(four_ranks, case, f"{case} locked", locked(Towers()))


def compare(ranks, case, found=None, towers=None):
    found = found or case
    make, settings, _ = CASES[case]
    terms, gradients = run_case(case, towers or Towers(), make(**settings), global_batch(case, len(ranks)))
    for name, value in terms.items():
        parts = torch.stack([rank[found][0][name] for rank in ranks])
        if name.endswith("_loss"):
            torch.testing.assert_close(parts.mean(), value, rtol=1e-10, atol=1e-12)
        if name in COUNTS:
            assert parts.sum() == value
    for name, gradient in gradients.items():
        assert name == "logit_bias" or gradient.abs().max() > 1e-3  # a bias does not change the softmax
        for rank in ranks:
            torch.testing.assert_close(rank[found][1][name], gradient, rtol=1e-5, atol=1e-12)


def test_the_batches_hold_what_must_be_tested():
    for case, (_, settings, targets) in CASES.items():
        image, text, (target, identity, mined) = global_batch(case)
        assert sum((target == torch.arange(20)).tolist()) == sum(targets)
        image, text, scale, _ = Towers()(image, text)
        clip, margin = helip_loss(image, text, scale, target, identity, mined)
        unmasked, _ = helip_loss(image, text, scale, target)
        _, without_mined = helip_loss(image, text, scale, target, identity)
        assert abs(clip - unmasked) > 1e-4, "no duplicate matters"
        if settings.get("margin_weight"):
            assert margin > 1e-3
            assert abs(margin - without_mined) > 1e-5, "no mined member matters"


def test_a_loss_that_forgets_the_other_rank_is_caught(ranks):
    """The average of two local losses has other gradients, so the comparison above can fail."""
    make, settings, _ = CASES["margin"]
    _, truth = run_case("margin", Towers(), make(**settings), global_batch("margin"))
    local = [run_case("margin", Towers(), make(**settings), rank_batch("margin", rank))[1] for rank in (0, 1)]
    mean = (local[0]["image.weight"] + local[1]["image.weight"]) / 2
    assert (mean - truth["image.weight"]).norm() > 0.05 * truth["image.weight"].norm()
