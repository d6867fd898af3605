"""The module under Lightning's DDP on two gloo processes."""

import csv
import socket

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.multiprocessing.spawn import spawn

from tests.training.tiny import both_ranks, fit, tiny_module
from tests.training.two_trainers import worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainers")
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
