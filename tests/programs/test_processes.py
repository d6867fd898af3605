"""Tests that need real processes: exit status, standard error, two ranks, and a sweep with a failing job."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from helip.artifacts.hard_pairs import ARRAYS
from helip.cli import ROOT
from tests.programs.conftest import CONFIG, TRAIN, VAL, World

QUIET = {"HELIP_ONE_SENTENCE": "", "HYDRA_FULL_ERROR": "0", "OMP_NUM_THREADS": "1"}


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, as a shell would start it."""
    variables = {name: value for name, value in os.environ.items() if name not in QUIET}
    variables |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    line = [sys.executable, *map(str, command)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240, env=variables)


def test_a_mistyped_setting_on_the_command_line() -> None:
    """The answer takes a second, because torch is not imported."""
    result = run("train.py", "helip.topkk=3")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == "error: there is no setting 'helip.topkk', did you mean 'helip.topk'?: --help lists them\n"
    shown = run("train.py", "helip.topkk=3", HYDRA_FULL_ERROR="1")
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr and "ConfigCompositionException" in shown.stderr


def test_an_error_inside_a_stage(tmp_path: Path) -> None:
    places = [f"paths.artifacts={tmp_path}/a", f"paths.runs={tmp_path}/r"]
    result = run("mine.py", "dataset=folder", "dataset.path=/nowhere", "encoders=clip", *places)
    assert result.returncode == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: no shards at /nowhere: docs/datasets.md says how to get the shards;")


RECORDED = """
import json, os
from helip.artifacts.embeddings import EmbeddingStore

write = EmbeddingStore.write

def recorded(self, rows, *embeddings):
    with open(f"{os.environ['RECORD']}/{os.environ.get('LOCAL_RANK', '0')}-{self.folder.name}", "a") as file:
        file.writelines(f"{row}\\n" for row in rows.tolist())
    write(self, rows, *embeddings)

EmbeddingStore.write = recorded

from helip.cli import launch

if __name__ == "__main__":
    launch("train")
"""


@pytest.fixture(scope="module")
def folder_model(tmp_path_factory) -> Path:
    """A model that a new process can load, in open_clip's layout; without dropout, which differs between ranks."""
    import open_clip

    folder = tmp_path_factory.mktemp("model")
    config = CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | {"patch_dropout": 0.0}}  # type: ignore[operator]
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(1)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def test_two_ranks_do_what_one_does(make_world, folder_model: Path, tmp_path: Path) -> None:
    """`train.py trainer=ddp_cpu` mines and trains on two gloo ranks; then one rank, from the same embeddings."""
    shared = [f"model.name=local-dir:{folder_model}", "model.pretrained=null", "data.embed_batch_size=5"]
    shared += ["helip=paper", "evaluation.batch_size=3"]  # several batches for each rank
    training = ["train.max_steps=4", "optim.lr=1e-3", "optim.eps=1e-3", "train.best=val/t2i_mean_rank"]
    two, one = make_world(tmp_path / "two", shared), make_world(tmp_path / "one", shared)
    (tmp_path / "train_recorded.py").write_text(RECORDED)
    folder = tmp_path / "run"
    command = [tmp_path / "train_recorded.py", *two.overrides, *training, "trainer=ddp_cpu", f"hydra.run.dir={folder}"]
    (tmp_path / "record").mkdir()
    result = run(*command, RECORD=str(tmp_path / "record"), PYTHONIOENCODING="ascii")  # bars have other characters
    assert result.returncode == 0, result.stderr

    # every row of the training part once, by both ranks, and every row of the evaluation part once an evaluation
    written = {path.name: path.read_text().split() for path in (tmp_path / "record").iterdir()}
    mining = {name: rows for name, rows in written.items() if "-clip-" in name}
    assert {name[0] for name in mining} == {"0", "1"}
    assert Counter(row for rows in mining.values() for row in rows) == {str(row): 1 for row in range(TRAIN)}
    first, second = (sorted(map(int, mining[name])) for name in sorted(mining))
    assert first[-1] < second[0]  # each its own pages of the store
    assert len(written["0-val"]) + len(written["1-val"]) >= 2 * VAL

    # one run folder, written once; only rank 0 speaks
    assert result.stdout.count("run folder: ") == 1 and f"run folder: {folder} (" in result.stdout
    assert not (tmp_path / "two" / "runs").exists()
    two_results = json.loads((folder / "results.json").read_text())
    assert two_results["steps"] == 4 and two_results["pairs"] == 32

    shutil.copytree(tmp_path / "two/artifacts/folder/embeddings", tmp_path / "one/artifacts/folder/embeddings")
    assert one.run("mine").status == 0
    two_index, one_index = (
        next((tmp_path / name / "artifacts/folder/hard_pairs").glob("*/meta.json")).parent for name in ("two", "one")
    )
    assert two_index.name == one_index.name
    for name in ARRAYS:
        assert (two_index / f"{name}.npy").read_bytes() == (one_index / f"{name}.npy").read_bytes()

    alone = one.run("train", *training)
    assert alone.status == 0, alone.err
    one_results = json.loads((alone.folder / "results.json").read_text())
    assert one_results["metrics"]["before"] == two_results["metrics"]["before"]  # to the last bit
    best = [torch.load(path / "checkpoints" / "best.ckpt", weights_only=True) for path in (folder, alone.folder)]
    assert [one["callbacks"]["BestCheckpoint"]["step"] for one in best] == [4, 4]
    assert (folder / "best.pt").is_file() and (folder / "final.pt").is_file()
    final = [torch.load(path / "final.pt", weights_only=True) for path in (folder, alone.folder)]
    difference = {name: (value - final[1][name]).abs().max().item() for name, value in final[0].items()}
    assert max(difference.values()) < 1e-5, difference
    store = next((tmp_path / "two/artifacts/folder/embeddings").glob("*/image.npy"))
    assert np.allclose(np.linalg.norm(np.load(store)[:TRAIN], axis=1), 1, atol=1e-5)


def test_a_sweep_mines_once_and_outlives_a_job_that_fails(fresh: World) -> None:
    sweep = fresh.folder / "sweep"
    result = fresh.run(
        "train", "-m", "helip.topk=2,999,3", "train.max_steps=2", f"hydra.sweep.dir={sweep}", "dataset.evaluators=[]"
    )
    assert result.status == 1
    (sentence,) = result.errors
    assert sentence.startswith("error: job 1: helip.topk=999 must be at least 1 and less than the 32 usable rows")
    configs = [json.loads((sweep / str(number) / "config.json").read_text()) for number in range(3)]
    assert [config["helip"]["topk"] for config in configs] == [2, 999, 3]
    assert [(sweep / str(number) / "results.json").exists() for number in range(3)] == [True, False, True]
    assert result.out.count("mining folder:") == 1
    (index,) = (fresh.folder / "artifacts/folder/hard_pairs").glob("*/meta.json")
    assert index.parent.name.startswith("joint-")


def test_torchrun_gives_all_ranks_one_run_folder(make_world, folder_model: Path, tmp_path: Path) -> None:
    """Each rank that torchrun starts composes the settings by itself, a few milliseconds apart."""
    world = make_world(tmp_path, [f"model.name=local-dir:{folder_model}", "model.pretrained=null"])
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "train.py"]
    result = run(*launcher, *world.overrides, "trainer=ddp_cpu", "train.max_steps=2", "data.workers=0")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "runs" / "train").iterdir()
    assert f"run folder: {folder}" in result.stdout
    assert json.loads((folder / "results.json").read_text())["steps"] == 2
