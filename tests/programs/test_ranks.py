"""train.py on two gloo ranks: ended by SIGTERM, and resumed on the same and on another number of ranks."""

import os
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
from tests.programs.test_killed import same
from tests.programs.test_processes import folder_model as folder_model  # a fixture

STEPS = 40
ONE, TWO = "trainer=cpu", "trainer=ddp_cpu"


class Runs:
    """Trainings that share their artefacts; each has a run folder of its own."""

    def __init__(self, folder: Path, shards: Path, model: Path) -> None:
        self.folder = folder
        self.shared = [
            *data_overrides(shards), f"model.name=local-dir:{model}", "model.pretrained=null",
            f"paths.artifacts={folder}/artifacts", f"paths.runs={folder}/runs", f"train.max_steps={STEPS}",
            "train.checkpoint_every=10", "train.keep_checkpoints=-1", "train.evaluate=end", "train.log_every=1",
            "data.workers=1", "optim.lr=1e-3", "optim.eps=1e-3", "dataset.evaluators=[]",
        ]  # fmt: skip

    def start(self, name: str, *overrides: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "train.py", *self.shared, *overrides, f"hydra.run.dir={self.folder / name}"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def finish(self, name: str, *overrides: str) -> dict[str, torch.Tensor]:
        process = self.start(name, *overrides)
        said = process.communicate(timeout=600)[0].decode()
        assert process.returncode == 0, said[-2000:]
        return torch.load(self.folder / name / "final.pt", weights_only=True)

    def steps(self, name: str) -> list[int]:
        """Steps with a checkpoint."""
        found = (self.folder / name / "checkpoints").glob("step-*.ckpt")
        return sorted(int(path.stem.removeprefix("step-")) for path in found)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shards: Path, folder_model: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("ranks"), shards, folder_model)


@pytest.fixture(scope="module")
def one(runs: Runs) -> dict[str, torch.Tensor]:
    return runs.finish("one", ONE)


@pytest.fixture(scope="module")
def two(runs: Runs, one: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return runs.finish("two", TWO)


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    assert first.keys() == second.keys()
    return max((value - second[name]).abs().max().item() for name, value in first.items())


@pytest.mark.slow
def test_sigterm_on_two_ranks(runs: Runs, two: dict[str, torch.Tensor]) -> None:
    """SIGTERM for every process, as from a scheduler: one checkpoint, status 143, the weights of an unbroken run."""
    process, began = runs.start("terminated", TWO), time.monotonic()
    while not runs.steps("terminated"):
        assert process.poll() is None and time.monotonic() - began < 300
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == EXIT_SIGTERM, said[-2000:]
    assert said.count("SIGTERM: stopped after step") == 1
    *periodic, last = runs.steps("terminated")
    assert last < STEPS and all(step % 10 == 0 for step in periodic)
    resumed = runs.finish("resumed", TWO, f"train.resume={runs.folder / 'terminated'}")
    assert runs.steps("resumed")[0] > last
    assert same(resumed, two)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "trainer"), [("one", "two", TWO), ("two", "one", ONE)])
def test_another_number_of_ranks_goes_on(
    runs: Runs, one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], before: str, after: str, trainer: str
) -> None:
    """From step 20 of 40: weights within 1e-5 of both unbroken runs."""
    checkpoint = runs.folder / before / "checkpoints" / "step-000020.ckpt"
    changed = runs.finish(f"{before}-to-{after}", trainer, f"train.resume={checkpoint}")
    start = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert close(changed, {name: start[f"model.{name}"] for name in changed}) > 1e-3  # it trained
    assert close(changed, one) < 1e-5 and close(changed, two) < 1e-5
    assert runs.steps(f"{before}-to-{after}") == [30, 40]
