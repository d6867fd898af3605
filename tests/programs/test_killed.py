"""train.py is killed repeatedly by SIGKILL and SIGTERM and restarted by the same command: the same weights."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from helip.cli import ROOT
from helip.training.checkpoint_callback import EXIT_SIGTERM
from tests.programs.conftest import data_overrides
from tests.programs.test_processes import folder_model as folder_model  # a fixture

STEPS = 160


class Killed:
    """One training, restarted by one command."""

    def __init__(self, folder: Path, shards: Path, model: Path, *overrides: str) -> None:
        self.runs = folder / "runs"
        self.command = [
            sys.executable, "train.py", *data_overrides(shards), f"model.name=local-dir:{model}",
            "model.pretrained=null", f"paths.artifacts={folder}/artifacts", f"paths.runs={self.runs}", "trainer=cpu",
            f"train.max_steps={STEPS}", "train.checkpoint_every=7", "train.evaluate=end", "train.resume=auto",
            "data.workers=2", "optim.lr=1e-3", "dataset.evaluators=[]", *overrides,
        ]  # fmt: skip

    def start(self) -> subprocess.Popen:
        """Start it in a new session, as a scheduler does."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def newest(self) -> int:
        """The newest step on disk."""
        steps = [int(path.stem.removeprefix("step-")) for path in self.runs.glob("train/*/checkpoints/step-*.ckpt")]
        return max(steps, default=0)

    def kill(self, how: signal.Signals, after: float) -> None:
        """Wait for a new checkpoint and a moment longer, and end all processes of the training."""
        before, process, began = self.newest(), self.start(), time.monotonic()
        while self.newest() <= before and process.poll() is None:
            assert time.monotonic() - began < 200, "no checkpoint was written"
            time.sleep(0.01)
        time.sleep(after)
        assert process.poll() is None, process.communicate()[0].decode()[-2000:]
        os.killpg(process.pid, how)
        said = process.communicate(timeout=60)[0].decode()
        if how == signal.SIGTERM:
            assert process.returncode == EXIT_SIGTERM, said[-2000:]
            assert "SIGTERM: stopped after step" in said

    def finish(self) -> dict[str, torch.Tensor]:
        process = self.start()
        said = process.communicate(timeout=300)[0].decode()
        assert process.returncode == 0, said[-2000:]
        (final,) = self.runs.glob("train/*/final.pt")
        return torch.load(final, weights_only=True)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, shards: Path, folder_model: Path) -> dict[str, torch.Tensor]:
    return Killed(tmp_path_factory.mktemp("unbroken"), shards, folder_model).finish()


def test_killed_three_times(unbroken, tmp_path: Path, shards: Path, folder_model: Path) -> None:
    killed, chance = Killed(tmp_path, shards, folder_model), random.Random(os.getpid())
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        killed.kill(how, chance.uniform(0, 0.1))
    assert 0 < killed.newest() < STEPS
    assert same(killed.finish(), unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_twenty_times_at_random_steps(unbroken, tmp_path: Path, shards: Path, folder_model: Path, seed: int):
    """Four chains of five."""
    killed, chance = Killed(tmp_path, shards, folder_model), random.Random(seed)
    for _ in range(5):
        killed.kill(chance.choice([signal.SIGKILL, signal.SIGTERM]), chance.uniform(0, 0.15))
    assert same(killed.finish(), unbroken)


@pytest.mark.slow
def test_graph_batches_killed_ten_times(tmp_path: Path, shards: Path, folder_model: Path):
    """By SIGKILL and SIGTERM, each after one more checkpoint; another plan has other weights."""
    graph = ["helip.plan=graph", "helip.cluster=4"]
    unbroken = Killed(tmp_path / "unbroken", shards, folder_model, *graph).finish()
    killed, chance = Killed(tmp_path / "killed", shards, folder_model, *graph), random.Random(0)
    for _ in range(10):
        killed.kill(chance.choice([signal.SIGKILL, signal.SIGTERM]), chance.uniform(0, 0.15))
    assert 0 < killed.newest() < STEPS
    assert same(killed.finish(), unbroken)
    assert not same(unbroken, Killed(tmp_path / "partners", shards, folder_model).finish())
