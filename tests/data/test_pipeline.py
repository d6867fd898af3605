"""The stream: numbers of workers and ranks, and interruptions, do not change the pairs of a step."""

import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from helip.cli import ROOT
from helip.data.pipeline import StepPositions, TrainingStream, collate
from helip.data.plans.contract import PlanData, units_per_step
from helip.data.plans.partners import PartnersSettings
from helip.data.units import UnitReader
from helip.data.workers import PatientLoader, end_workers
from helip.errors import HelipError
from tests.data.streams import batches, same, unit_reader
from tests.samples import sample, write_shards, write_tar


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> UnitReader:
    folder = tmp_path_factory.mktemp("shards")
    shards = write_shards(folder, [7, 5, 9])
    bad = [("x", sample(90, jpg=b"broken")), ("y", sample(91)), ("z", sample(92))]
    return unit_reader([*shards, write_tar(folder / "00003.tar", bad)])  # 24 rows, one of them unreadable


@pytest.fixture(scope="module")
def alone(read: UnitReader) -> list:
    """Nine steps of four targets over all of one process: an epoch and a half."""
    return batches(read, 9, 4)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_change_nothing(read: UnitReader, alone: list, workers: int) -> None:
    several = batches(read, 9, 4, workers=workers)
    assert len(several) == 9
    assert all(same(one, other) for one, other in zip(alone, several, strict=True))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_same_global_batch(read: UnitReader, alone: list, world: int) -> None:
    ranks = [batches(read, 9, 4, rank=rank, world=world) for rank in range(world)]
    own = 4 // world
    for step, whole in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        for name in ("row", "text", "image", "identity", "mined"):
            for first, last in ((0, own), (own, 2 * own)):  # the targets in order, then the partners in order
                joined = torch.cat([part[name][first:last] for part in parts])
                assert torch.equal(joined, whole[name][4 * first // own : 4 * last // own])
        assert all(part["target"].tolist() == [*range(own), *range(own)] for part in parts)
        assert sum(part["replaced"] for part in parts) == whole["replaced"]


@pytest.mark.parametrize(("step", "workers"), [(1, 0), (5, 2), (9, 0)])
def test_resuming_gives_the_rest(read: UnitReader, alone: list, step: int, workers: int) -> None:
    rest = batches(read, 9, 4, first=step, workers=workers)
    assert len(rest) == 9 - step
    assert all(same(one, other) for one, other in zip(alone[step:], rest, strict=True))


def test_a_wrong_first_step_would_show(read: UnitReader, alone: list) -> None:
    """A check of the comparison: with an offset of one, every step differs."""
    shifted = batches(read, 9, 4, first=4)
    assert not any(same(one, other) for one, other in zip(alone[5:], shifted, strict=False))
    assert not any(same(one, other) for one, other in pairwise(alone))


def test_targets_first_then_partners(alone: list) -> None:
    for batch in alone:
        rows, target = batch["row"].tolist(), batch["target"].tolist()
        assert target == [0, 1, 2, 3, 0, 1, 2, 3]
        assert all((rows[position] - rows[owner]) % 24 in range(1, 5) for position, owner in enumerate(target[4:], 4))
        assert batch["image"].shape == (8, 3, 8, 8) and batch["image"].dtype == torch.float32
        assert batch["text"].shape == (8, 12) and batch["text"].dtype == torch.int64
        assert batch["identity"].shape == (8, 3) and torch.equal(batch["identity"][:, 0], batch["row"])
        assert batch["mined"].shape == (8, 4) and (batch["mined"][4:] == -1).all()
        assert (batch["mined"][:4].diff(dim=1) >= 0).all()
    assert sum(batch["replaced"] for batch in alone) > 0


def test_workers_outlive_every_sigterm_and_end_with_their_program(read: UnitReader) -> None:
    stream = TrainingStream(StepPositions(0, 400, 4, 0, 1), read)
    batches = iter(PatientLoader(stream, batch_size=None, num_workers=1))
    next(batches)
    before = signal.getsignal(signal.SIGCHLD)  # of torch, which reports dead workers in other tests
    (worker,) = batches._workers  # type: ignore[attr-defined]
    for _ in range(2):  # a scheduler sends it to every process, perhaps twice
        worker.terminate()
        assert [next(batches)["replaced"] >= 0 for _ in range(10)] and worker.is_alive()
    try:
        end_workers()
        worker.join(20)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert worker.exitcode == -signal.SIGKILL


LEFT_OVER = """
import os, signal
from torch.utils.data import Dataset
from helip.data.workers import PatientLoader

class Numbers(Dataset):
    def __len__(self):
        return 60
    def __getitem__(self, number):
        return number

batches = iter(PatientLoader(Numbers(), batch_size=None, num_workers=1))
first = next(batches)
for _ in range(2):
    os.kill(batches._workers[0].pid, signal.SIGTERM)
print(sum(batches), first, batches._workers[0].pid, flush=True)
batches = iter(PatientLoader(Numbers(), batch_size=None, num_workers=1))
print(next(batches), batches._workers[0].pid, flush=True)
raise SystemExit(143)
"""


@pytest.mark.slow
def test_a_program_with_workers_that_are_left_over_ends() -> None:
    """At its exit, Python sends SIGTERM to the workers and waits for them."""
    done = subprocess.run([sys.executable, "-c", LEFT_OVER], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 143 and done.stderr == ""
    total, first, one, again, other = map(int, done.stdout.split())
    assert (total, first, again) == (1770, 0, 0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in (one, other))


def test_plain_training_has_targets_alone(read: UnitReader) -> None:
    plain = unit_reader(read.index.shards, partners=None)
    (batch,) = batches(plain, 1, 5)
    assert batch["target"].tolist() == [0, 1, 2, 3, 4] and batch["mined"].tolist() == [[-1]] * 5


def test_an_error_in_a_worker_arrives(tmp_path: Path) -> None:
    shards = [write_tar(tmp_path / "0.tar", [("a", sample(0)), ("bad", sample(1, jpg=b"x")), ("c", sample(2))])]
    read = unit_reader(shards, on_error="fail")
    with pytest.raises(HelipError, match=r"0\.tar, key bad \(row 1\): its image cannot be decoded"):
        batches(read, 3, 2, workers=1)


def test_the_length_is_the_whole_training(read: UnitReader) -> None:
    """Lightning compares it with the trained steps when it resumes."""
    stream = TrainingStream(StepPositions(5, 9, 4, 0, 1), read)
    assert len(stream) == len(DataLoader(stream, batch_size=None)) == 9


def test_collate_pads_mined_rows_in_front(read: UnitReader) -> None:
    whole, other = read(0), read(1)
    fewer = other.target.mined[2:]
    batch = collate([whole, replace(other, target=replace(other.target, mined=fewer))])
    assert batch["mined"][1].tolist() == [-1, -1, *fewer.tolist()]


def test_the_batch_divides_into_units_per_rank(read: UnitReader) -> None:
    def data(size: int) -> PlanData:
        return PlanData(read.index.valid, read.index.starts, size)

    assert units_per_step(PartnersSettings("random", p=3).bind(data(24)), 2) == 6
    assert units_per_step(PartnersSettings("off").bind(data(24)), 2) == 24
    for size, world in ((10, 1), (12, 2), (0, 1), (-4, 1)):
        with pytest.raises(HelipError, match=rf"data\.batch_size={size} must be a multiple of {4 * world} "):
            units_per_step(PartnersSettings("random", p=3).bind(data(size)), world)
