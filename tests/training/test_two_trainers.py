"""The module under Lightning's DDP on two gloo processes."""

import csv
import socket
from itertools import pairwise

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.multiprocessing.spawn import spawn

from helip.training.checkpoint_callback import EXIT_SIGTERM, Checkpoints
from helip.training.run_files import checkpoints_in
from tests.training.tiny import both_ranks, fit, tiny_module
from tests.training.two_trainers import worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainers")
    module = tiny_module(folder, dropout=0.0, eps=1e-3)
    fit(module, folder, 4, make=both_ranks, callbacks=[Checkpoints(folder / "alone", 2, keep=9)])
    torch.save(module.model.state_dict(), folder / "alone.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(worker, args=(port, folder), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_weights_and_logs_are_those_of_one_process_with_the_whole_batch(folder, ranks, tmp_path):
    module = tiny_module(tmp_path, dropout=0.0, eps=1e-3)
    fit(module, tmp_path, 4, make=both_ranks, logger=CSVLogger(tmp_path, name="", version="logs"))
    start = tiny_module(tmp_path).model.state_dict()
    for name, value in module.model.state_dict().items():
        assert not torch.equal(value, start[name]), f"{name} was not trained"
        for rank in ranks:
            torch.testing.assert_close(rank["still"][name], value, rtol=0, atol=1e-5)
    ours, theirs = rows_of(folder / "logs" / "metrics.csv"), rows_of(tmp_path / "logs" / "metrics.csv")
    assert len(ours) == len(theirs) == 4
    for one, other in zip(ours, theirs, strict=True):
        for name in ("loss", "contrastive_loss", "margin_loss", "masked_pairs", "replaced_rows", "grad_norm", "lr"):
            assert float(one[f"train/{name}"]) == pytest.approx(float(other[f"train/{name}"]), rel=1e-4), name


def test_each_rank_resumes_its_own_random_numbers_bit_for_bit(ranks):
    for rank in ranks:
        assert all(torch.equal(rank["unbroken"][name], value) for name, value in rank["again"].items())
    states = ranks[0]["rng"]
    assert states.shape[0] == 2
    assert not torch.equal(states[0], states[1])


def test_sigterm_of_one_rank_ends_both_after_one_checkpoint(folder, ranks):
    """It reaches rank 1 in its third step; both ranks know it after the fourth, save once, and resume bit for bit."""
    assert [path.name for path in (folder / "terminated").iterdir()] == ["step-000004.ckpt"]
    for rank in ranks:
        assert rank["status"] == EXIT_SIGTERM
        assert all(torch.equal(rank["longer"][name], value) for name, value in rank["terminated"].items())


def test_a_loss_that_is_infinite_on_one_rank_ends_both(folder, ranks):
    assert [path.name for path in checkpoints_in(folder / "diverged")] == ["step-000002.ckpt"]
    for rank in ranks:
        assert "the loss of step 3 is not finite" in rank["diverged"] and "step-000002.ckpt" in rank["diverged"]


def test_minutes_are_counted_by_any_rank(folder):
    """Rank 1 asks for a checkpoint every 0.2 s, two steps or less; a checkpoint resets its timer."""
    steps = [int(path.stem.removeprefix("step-")) for path in checkpoints_in(folder / "minutes")]
    assert steps[0] < 5 and steps[-1] == 6
    assert all(later - earlier > 1 for earlier, later in pairwise(steps[:-1]))


def test_resuming_on_another_number_of_ranks(folder, ranks, tmp_path):
    """From two ranks to one, and from one to two, after two of four steps: the weights of unbroken runs."""
    module = tiny_module(tmp_path, dropout=0.0, eps=1e-3)
    with pytest.warns(UserWarning, match="no random state for 1 ranks"):
        fit(module, tmp_path, 4, start=2, ckpt_path=folder / "still" / "step-000002.ckpt", make=both_ranks)
    alone = torch.load(folder / "alone.pt")
    for name, value in module.model.state_dict().items():
        torch.testing.assert_close(value, ranks[0]["still"][name], rtol=0, atol=1e-5)
        for rank in ranks:
            torch.testing.assert_close(rank["alone"][name], alone[name], rtol=0, atol=1e-5)
