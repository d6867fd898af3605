"""A sweep by the submitit launcher: each job is a process of its own, as on a cluster; needs the extra `slurm`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helip.cli import ROOT
from helip.programs.multirun import read_jobs
from tests.programs.conftest import data_overrides
from tests.programs.test_processes import folder_model as folder_model  # a fixture

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'helip[slurm]'")


@pytest.mark.slow
def test_jobs_in_processes_of_their_own(make_world, folder_model: Path, tmp_path: Path) -> None:
    """Three jobs at once: they mine once, each has its folder, and one fails while the others do not."""
    world = make_world(tmp_path)
    model = [f"model.name=local-dir:{folder_model}", "model.pretrained=null"]
    command = [sys.executable, "train.py", "-m", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]
    command += [*data_overrides(world.shards), *world.places, *model, "helip.topk=2,999,3"]
    command += ["train.max_steps=2", "dataset.evaluators=[]", "train.evaluate=end"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    (sweep,) = tmp_path.glob("runs/train-sweep/*")
    assert result.returncode == 1, result.stderr  # one job failed
    assert [job.status for job in read_jobs(sweep)] == ["finished", "failed", "finished"], result.stdout
    assert "helip.topk=999 must be" in json.loads((sweep / "1" / "status.json").read_text())["reason"]
    assert (sweep / "0" / "final.pt").exists() and (sweep / "2" / "final.pt").exists()
    assert "jobs 1 have no result" in result.stdout and "Traceback" not in result.stderr
    said = "".join(path.read_text() for path in sweep.glob(".submitit/*/*_log.out"))
    assert len(list((tmp_path / "artifacts" / "folder" / "hard_pairs").glob("*/meta.json"))) == 1
    assert said.count("hard pairs: ") >= 2
