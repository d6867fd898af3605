"""The wheel alone, away from the checkout: command, configuration, ranks, sweeps and a user's own groups."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from helip.cli import ROOT, config_folder

SMALL = ["helip.topk=4", "data.batch_size=16", "data.workers=0", "train.max_steps=2", "train.evaluate=end"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, timeout=120)
    return next(folder.glob("helip-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files, for PYTHONPATH; the command is in its bin/."""
    folder = tmp_path_factory.mktemp("site")
    command = ["pip", "install", "--no-deps", "--no-index", "-q", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, timeout=120)
    return folder


def run(installed: Path, folder: Path, *command: str, start: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`helip COMMAND` of the wheel, in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HELIP")}
    environment |= {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    start = start or (sys.executable, str(installed / "bin" / "helip"))
    found = subprocess.run([*start, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    return found


def test_the_wheel_holds_the_configuration_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        commands = next(file.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    files = [path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml") if "local" not in path.parts]
    assert {f"helip/conf/{path}" for path in files} <= names
    assert "helip = helip.__main__:main" in commands
    assert not [name for name in names if name.startswith(("conf/", "tests/", "experiments/"))]


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    source = next(tmp_path.glob("helip-*.tar.gz"))
    with tarfile.open(source) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    assert {"conf/train.yaml", "train.py", "examples/extend/README.md", "tests/test_wheel.py", "LICENSE"} <= held
    command = [
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        "-w",
        str(tmp_path),
        str(source),
    ]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, timeout=120)
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(next(tmp_path.glob("helip-*.whl"))) as again:
        names = {name for name in ours.namelist() if name.startswith("helip/")}
        assert names == {name for name in again.namelist() if name.startswith("helip/")}
    assert any(name.startswith("helip/embedded/emoji/") and name.endswith(".tar") for name in names)


def test_a_stale_copy_is_never_read(tmp_path: Path) -> None:
    """With an older wheel in another folder of the path, a checkout uses its own conf/."""
    (tmp_path / "helip/conf").mkdir(parents=True)
    (tmp_path / "helip/conf/train.yaml").write_text("stale: true\n")
    assert config_folder(tmp_path / "helip") == tmp_path / "helip/conf"
    assert config_folder(ROOT / "helip") == ROOT / "conf"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "helip", "train", "--cfg", "job"]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "stale" not in said.stdout and "max_steps: null" in said.stdout, said.stderr


def test_help_and_a_users_own_groups(installed: Path, tmp_path: Path) -> None:
    assert "dataset: cc12m, cc3m" in run(installed, tmp_path, "train", "--help").stdout
    (tmp_path / "own/dataset").mkdir(parents=True)
    (tmp_path / "own/dataset/mine.yaml").write_text("defaults: [emoji]\nname: mine\n")
    said = run(installed, tmp_path, "train", "--config-dir", "own", "dataset=mine", "--cfg", "job").stdout
    assert "name: mine" in said and f"{installed}" not in said


@pytest.mark.slow
def test_mine_train_and_evaluate_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "mine", "helip.topk=4")
    run(installed, tmp_path, "train", *SMALL, "trainer=ddp_cpu", "hydra.run.dir=two")
    two = tmp_path / "two"
    assert (two / "final.pt").is_file() and len(list((two / "checkpoints").glob("*.ckpt"))) == 1
    run(installed, tmp_path, "evaluate", "checkpoint=two/final.pt", "hydra.run.dir=judged")
    assert (tmp_path / "judged/results.json").is_file()
    run(installed, tmp_path, "report", "two")


@pytest.mark.slow
def test_torchrun_and_a_sweep_of_two_ranks(installed: Path, tmp_path: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    run(
        installed, tmp_path, "train", *SMALL, "trainer=ddp_cpu", 'helip="off"', "paths.runs=torchrun",
        start=(*torchrun, "-m", "helip"),
    )  # fmt: skip
    assert len(list(tmp_path.glob("torchrun/train/*/results.json"))) == 1
    run(
        installed, tmp_path, "train", "-m", *SMALL, "trainer=ddp_cpu", 'helip="off"', "seed=0,1",
        "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert sorted(path.parent.name for path in tmp_path.glob("sweep/*/results.json")) == ["0", "1"]
