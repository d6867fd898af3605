"""Programs inside a SLURM allocation, in a folder that Hydra leaves, and without the requested GPU."""

import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from helip.errors import HelipError
from helip.ranks import TrainerSpec, predict_trainer
from tests.programs.conftest import World

CPU = TrainerSpec("cpu", 1, 1, "auto", "32-true")
TASK = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}


@pytest.fixture
def slurm(monkeypatch):
    """Variables of an allocation, without those of this machine."""
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "2"},
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"},
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "study", "SLURM_JOB_ID": "77"},
        {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", **TASK},  # the script of sbatch
        {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "0", **TASK},  # srun --ntasks 1
    ],
)
def test_one_process_in_an_allocation_is_one_process(slurm, variables: dict[str, str]) -> None:
    slurm(**variables)
    trainer = predict_trainer(CPU, progress=False)
    assert trainer.world_size == 1 and trainer.global_rank == 0


def test_the_tasks_of_srun_are_ranks(slurm) -> None:
    ours = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_NAME": "study"}
    slurm(**ours, **(TASK | {"SLURM_PROCID": "1", "SLURM_LOCALID": "1"}))
    trainer = pl.Trainer(**TrainerSpec("cpu", 2, 1, "ddp", "32-true").arguments(), logger=False)
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    assert isinstance(environment, SLURMEnvironment) and environment.global_rank() == 1


@pytest.mark.parametrize("per_node", [{}, {"SLURM_NTASKS_PER_NODE": "2"}])
def test_more_tasks_than_devices_are_one_sentence_with_the_cure(slurm, per_node: dict[str, str]) -> None:
    slurm(SLURM_NTASKS="2", SLURM_STEP_NUM_TASKS="2", SLURM_JOB_NAME="study", **per_node, **TASK)
    with pytest.raises(HelipError, match=r"start as many tasks by srun as trainer.devices=1 says, or one without srun"):
        predict_trainer(CPU, progress=False)


def test_torchrun_in_an_allocation_keeps_its_ranks(slurm, monkeypatch) -> None:
    slurm(SLURM_NTASKS="2")
    for name, value in (("RANK", "0"), ("GROUP_RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    if TorchElasticEnvironment.detect():
        assert TrainerSpec("cpu", 1).arguments()["plugins"] is None


def test_outside_of_an_allocation_nothing_is_said_to_lightning(slurm) -> None:
    assert CPU.arguments()["plugins"] is None
    slurm(SLURM_NTASKS="2")
    (environment,) = CPU.arguments()["plugins"]
    assert isinstance(environment, LightningEnvironment)


@pytest.mark.skipif(__import__("torch").cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_that_is_not_there_names_the_cure(accelerator: str) -> None:
    with pytest.raises(HelipError, match="trainer=cpu runs without a GPU"):
        predict_trainer(TrainerSpec(accelerator, 1, 1, "auto", "32-true"), progress=False)


@pytest.mark.parametrize("setting", ["dataset.path", "model.pretrained", "reuse"])
def test_a_relative_path_under_chdir_names_the_cause(world: World, monkeypatch, setting: str) -> None:
    monkeypatch.chdir(world.shards.parent.parent)
    relative = os.path.relpath({"model.pretrained": world.weights}.get(setting, world.shards))
    result = world.run("mine", f"{setting}={relative}", "hydra.job.chdir=true")
    os.chdir(world.shards.parent.parent)
    assert result.status == 1 and len(result.errors) == 1, result.err
    assert f"hydra.job.chdir=true moved the program away from {setting}={relative}" in result.errors[0]


def test_whole_paths_under_chdir_work(world: World, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = world.run("evaluate", "hydra.job.chdir=true")
    os.chdir(tmp_path)
    assert result.status == 0, result.err
