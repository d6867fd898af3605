"""Multiruns: finished jobs are not repeated, unfinished ones are resumed, and a failed job ends no other."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helip.cli import ROOT
from helip.data.partners import MinedPartners
from helip.data.plans.partners import PartnerPlan
from helip.programs import train as program
from helip.programs.continued import record_of
from helip.programs.multirun import begin_job, describe_sweep, end_job, finished_run, note_job, read_jobs
from helip.report.__main__ import main as report
from helip.training.checkpoint_callback import Checkpoints
from tests.programs.conftest import Result, World, data_overrides, settings
from tests.programs.test_processes import folder_model as folder_model  # a fixture

JOBS = ["-m", "helip.topk=2,3", "train.max_steps=4", "train.checkpoint_every=2", "train.evaluate=end"]


def sweep(world: World, name: str, *overrides: str) -> tuple[Result, Path]:
    folder = world.folder / "runs" / "train-sweep" / name
    return world.run("train", *JOBS, f"hydra.sweep.dir={folder}", *overrides), folder


def statuses(folder: Path) -> list[str]:
    return [job.status for job in read_jobs(folder)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "final.pt", weights_only=True)


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def first(world: World, mined: Result) -> tuple[Result, Path]:
    """Two jobs in a folder of their own."""
    return sweep(world, "first")


def test_one_table_of_all_jobs(first: tuple[Result, Path]) -> None:
    result, folder = first
    assert result.status == 0, result.err
    assert statuses(folder) == ["finished"] * 2
    table = result.out[result.out.rindex("Jobs") :]
    assert table.split()[:5] == ["Jobs", "job", "helip.topk", "val/i2t_recall@1", "(%)"]
    lines = [line.split() for line in table.splitlines() if line.rstrip().endswith("finished")]
    assert [line[:2] for line in lines] == [["0", "2"], ["1", "3"]]
    recall = json.loads((folder / "1" / "results.json").read_text())["metrics"]["after"]["val/i2t_recall@1"]
    assert lines[1][2] == f"{100 * recall:.2f}"
    assert f"python experiments/tabulate.py {folder} --x helip.topk --out {folder}/table" in result.out


def test_the_same_command_again_repeats_nothing(world: World, first: tuple[Result, Path]) -> None:
    """In a new folder, as by default; new jobs run, and the table has all jobs."""
    result, folder = sweep(world, "again", "helip.topk=3,4")
    assert result.status == 0, result.err
    assert statuses(folder) == ["finished before", "finished"]
    assert [job.run for job in read_jobs(folder)] == [first[1] / "1", folder / "1"]
    assert not (folder / "0" / "final.pt").exists()
    assert result.out.count("skipped: finished before in ") == 1
    assert f"repeats them): jobs 0 (1) in {first[1]}" in result.out
    command = next(line for line in result.out.splitlines() if "tabulate.py" in line).split("python ")[1]
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| joint · 3 | 1 |" in done.stdout and "| joint · 4 | 1 |" in done.stdout


def test_finished_jobs_are_repeated_when_asked(world: World, first: tuple[Result, Path]) -> None:
    result, folder = sweep(world, "forced", "train.skip_finished=false", "helip.topk=2")
    assert result.status == 0 and statuses(folder) == ["finished"], result.err
    assert same(folder / "0", first[1] / "0")


def test_a_single_run_is_skipped_only_when_asked(world: World, first: tuple[Result, Path]) -> None:
    settings = [*JOBS[2:], "helip.topk=2"]
    wanted = world.run("train", *settings, "train.skip_finished=true")
    assert wanted.status == 0 and "skipped: finished before in " in wanted.out
    plain = world.run("train", *settings)
    assert plain.status == 0 and "skipped" not in plain.out and same(plain.folder, first[1] / "0")


def test_an_interrupted_sweep_goes_on(world: World, first: tuple[Result, Path], monkeypatch) -> None:
    """Ended after step 2 of 4 of the second job: the same command skips the first and resumes the second."""
    calls = []

    def save(self: Checkpoints, trainer) -> None:
        original(self, trainer)
        calls.append(trainer.global_step)
        if len(calls) == 3:
            raise KeyboardInterrupt

    original = Checkpoints._save
    monkeypatch.setattr(Checkpoints, "_save", save)
    begun, broken = sweep(world, "broken", "optim.lr=1e-3")
    monkeypatch.undo()
    assert begun.status != 0 and calls == [2, 4, 2] and statuses(broken) == ["finished", "unfinished"]
    assert "jobs 1 have no result: repeat the command" in begun.out
    result, folder = sweep(world, "mended", "optim.lr=1e-3")
    assert result.status == 0, result.err
    assert statuses(folder) == ["finished before", "finished"]
    assert f"resume: {broken}/1/checkpoints/step-000002.ckpt" in result.out
    with open(folder / "1" / "metrics.csv") as file:
        assert min(int(line["step"]) for line in csv.DictReader(file)) >= 2


def test_an_error_in_one_job_ends_no_other(world: World, first: tuple[Result, Path], monkeypatch) -> None:
    """Any exception: its traceback is printed, the jobs after it run, the table is printed, and the status is 1."""

    def stream(index, clip, plan: PartnerPlan, *others):
        assert isinstance(plan.partners, MinedPartners)
        if plan.partners.rows.shape[1] == 5:
            raise ZeroDivisionError("out of luck")
        return original(index, clip, plan, *others)

    original = program.build_stream
    monkeypatch.setattr(program, "build_stream", stream)
    result, folder = sweep(world, "unlucky", "helip.topk=5,2")
    assert result.status == 1
    assert "Traceback" in result.err and "error: job 0: ZeroDivisionError: out of luck" in result.err
    assert statuses(folder) == ["failed", "finished before"]
    assert json.loads((folder / "0" / "status.json").read_text())["reason"] == "ZeroDivisionError: out of luck"


def test_settings_that_decide_a_result_are_another_job(world: World, first: tuple[Result, Path]) -> None:
    """Precision and steps decide a result; workers and checkpoints do not."""
    digest = json.loads((first[1] / "0" / "results.json").read_text())["settings"]
    assert finished_run(digest, world.folder / "nowhere" / "0", world.folder / "runs") is not None
    assert finished_run("0" * 16, first[1] / "0", world.folder / "runs") is None
    same_result, folder = sweep(
        world, "workers", "data.workers=2", "train.checkpoint_every=3", "seed=0", "helip.topk=2"
    )
    assert same_result.status == 0 and statuses(folder) == ["finished before"]
    other, folder = sweep(world, "precision", "trainer.precision=bf16-mixed", "helip.topk=2")
    assert other.status == 0 and statuses(folder) == ["finished"]


def test_hard_pairs_that_are_named_decide_a_result(tmp_path: Path) -> None:
    """By their path for resuming and by their content for skipping, also arrays."""

    brought = ["encoders=precomputed", f"encoders.image={tmp_path}/image.npy", f"encoders.text={tmp_path}/text.npy"]

    def record(*more: str) -> dict[str, Any]:
        return record_of(settings("train", *brought, *more), "shards")

    def digests() -> list[str]:
        asked = [(), (f"paths.index={tmp_path}/a",), (f"paths.index={tmp_path}/b",)]
        return [record(*more)["settings"] for more in asked]

    assert record("paths.runs=elsewhere") == record() != record("paths.index=a")
    sources = ["{txt: 0.2, long: 0.8}", "{long: 0.8, txt: 0.2}"]
    one, other = (record(f"data.caption={caption}") for caption in sources)
    assert one["settings"] != other["settings"] and one["data"]["caption"] == [["txt", 0.2], ["long", 0.8]]
    before = digests()
    assert len(set(before)) == 3
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "meta.json").write_text("{}")
    after = digests()
    assert after[:2] == before[:2] and after[2] != before[2]
    np.save(tmp_path / "image.npy", np.zeros(3))
    assert not set(digests()) & {*before, *after}


def test_a_table_of_what_there_is(tmp_path: Path) -> None:
    """Jobs of every kind, in the order of their numbers."""
    for number, score in ((10, "joint"), (2, "random"), (1, "off")):
        begin_job(tmp_path / str(number), [f"helip={score}", "+model.arguments.x=1", "seed=1"])
    (tmp_path / "10" / "results.json").write_text(json.dumps({"metrics": {"after": {"test/t2i_recall@1": 0.5}}}))
    end_job(tmp_path / "10")
    note_job(tmp_path / "2", status="failed", reason="HelipError: no")
    table, lines, complete = describe_sweep(tmp_path)
    assert table.headers == ["job", "helip", "test/t2i_recall@1 (%)", "status"]
    assert table.lines == [
        ["1", "off", "-", "unfinished"], ["2", "random", "-", "failed"], ["10", "joint", "50.00", "finished"]
    ]  # fmt: skip
    assert lines[1] == "jobs 1, 2 have no result: repeat the command to run them" and not complete
    assert lines[2].endswith(f"tabulate.py {tmp_path} --by helip --out {tmp_path}/table")


def test_a_multirun_of_another_program(world: World, mined: Result) -> None:
    """Its table and its status say which job has no result."""
    folder = world.folder / "runs" / "mine-sweep" / "first"
    result = world.run("mine", "-m", "helip.topk=5,999", f"hydra.sweep.dir={folder}")
    assert result.status == 1 and statuses(folder) == ["finished", "failed"], result.err
    assert "helip.topk=999 must be" in json.loads((folder / "1" / "status.json").read_text())["reason"]
    assert "Jobs" in result.out and "jobs 1 have no result" in result.out and "tabulate" not in result.out


def test_a_report_of_the_jobs(first: tuple[Result, Path], tmp_path: Path, capsys) -> None:
    """`helip report runs/train-sweep/DATE/*` leaves out Hydra's file beside the jobs."""
    given = sorted(str(path) for path in first[1].glob("*"))
    assert {"0", "1", "multirun.yaml"} <= {Path(path).name for path in given}
    assert report([*given, "--out", str(tmp_path / "jobs.html")]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'jobs.html'}\n"
    page = (tmp_path / "jobs.html").read_text()
    recall = json.loads((first[1] / "1" / "results.json").read_text())["metrics"]["after"]["val/i2t_recall@1"]
    assert "topk=2" in page and "topk=3" in page and f"{100 * recall:.2f}" in page
    assert report([str(first[1]), "--out", str(tmp_path / "folder.html")]) == 0
    assert (tmp_path / "folder.html").read_text().count("topk=2") == page.count("topk=2")


@pytest.mark.slow
def test_killed(make_world, folder_model: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of the second job; the same command finishes it without mining again."""
    world = make_world(tmp_path)
    model = [f"model.name=local-dir:{folder_model}", "model.pretrained=null"]
    command = [sys.executable, "train.py", "-m", *data_overrides(world.shards), *world.places, *model, "helip.topk=2,3"]
    command += ["train.max_steps=60", "train.checkpoint_every=5", "dataset.evaluators=[]", "train.evaluate=end"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    began = time.monotonic()
    while not list(tmp_path.glob("runs/train-sweep/*/1/checkpoints/*.ckpt")):
        assert time.monotonic() - began < 240 and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (killed,) = tmp_path.glob("runs/train-sweep/*")
    assert statuses(killed) == ["finished", "unfinished"]
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"skipped: finished before in {killed}/0" in again.stdout and "mining folder" not in again.stdout
    assert f"resume: {killed}/1/checkpoints/step-" in again.stdout
