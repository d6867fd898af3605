"""Runs grouped into arms, and arms compared in pairs."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from experiments.arms import arm_lines, arms, difference_lines, find_results, load, start, wanted
from helip.errors import HelipError


def write(path: Path, seed: int, after: float, before: float = 0.1, **helip: Any) -> Path:
    content = {
        "helip": {"score": "joint", "margin_weight": 1.0, **helip},
        "seed": seed,
        "base": {"digest": f"from {before}"},
        "seen": {"distinct_targets": 100 + seed},
        "metrics": {
            "before": {"test/m": before, "test/t2i_mean_rank": 7.0},
            "after": {"test/m": after, "test/t2i_mean_rank": 5.0 + seed},
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """joint and random, three seeds each, with and without the margin; joint's seed 3 has no counterpart."""
    values = {("joint", 1): (0.21, 0.22, 0.26), ("random", 1): (0.20, 0.20, 0.20),
              ("joint", 0.0): (0.31, 0.31, 0.31), ("random", 0): (0.30, 0.31, 0.32)}  # fmt: skip
    found = []
    for (score, weight), metrics in values.items():
        for seed, value in enumerate(metrics):
            path = tmp_path / f"{score}{weight}-{seed}.json"
            found.append(write(path, seed, value, score=score, margin_weight=weight))
    return [*found, write(tmp_path / "alone.json", 3, 0.9, margin_weight=1)]


def test_arms_by_several_keys(files: list[Path]) -> None:
    """Weights 1, 1.0 and 0, 0.0 are two values; ranks and numbers of the file are no shares."""
    lines = arm_lines(load(files[:-1]), ["helip.score", "helip.margin_weight"], ["test/m", "test/t2i_mean_rank"])
    assert [(line.key, line.count) for line in lines] == [
        (("joint", "0"), 3), (("joint", "1"), 3), (("random", "0"), 3), (("random", "1"), 3)]  # fmt: skip
    assert [line.estimates["test/m"].mean for line in lines] == pytest.approx([31, 23, 31, 20])
    assert lines[1].estimates["test/t2i_mean_rank"].values == (5.0, 6.0, 7.0)
    (line,) = arm_lines(load(files[:3]), ["helip.score"], ["seen.distinct_targets"])
    assert line.estimates["seen.distinct_targets"].mean == 101


def test_differences_are_paired_by_seed_and_by_the_other_keys(files: list[Path]) -> None:
    """With margin 1, 2, 6 points: mean 3, deviation sqrt(7), 4.303 * 2.6458 / sqrt(3) = 6.57; without 1, 0, -1."""
    by = ["helip.score", "helip.margin_weight"]
    pair = wanted("helip.score=joint"), wanted("helip.score=random")
    lines, notes = difference_lines(load(files), by, ["test/m"], *pair)
    assert [(line.key, line.count) for line in lines] == [(("joint - random", "0"), 3), (("joint - random", "1"), 3)]
    assert lines[1].estimates["test/m"].text("+") == "+3.00 ± 6.57"
    assert lines[0].estimates["test/m"].values == pytest.approx((1, 0, -1))
    assert notes == ["joint - random: 1 runs have no counterpart and are left out."]


def test_a_difference_says_what_else_differs(files: list[Path]) -> None:
    pair = wanted("helip.score=joint,helip.margin_weight=1.0"), wanted("helip.score=random,helip.margin_weight=0")
    (line,), notes = difference_lines(load(files[:3] + files[9:12]), ["helip.score"], ["test/m"], *pair)
    assert line.estimates["test/m"].values == pytest.approx((-9, -9, -6)) and notes == []
    pair = wanted("helip.score=joint"), wanted("helip.score=random")
    _, notes = difference_lines(load(files[:3] + files[9:12]), ["helip.score"], ["test/m"], *pair)
    assert notes == ["joint - random: the two also differ in helip.margin_weight."]


def test_what_cannot_be_compared(files: list[Path], tmp_path: Path) -> None:
    runs = load(files)
    with pytest.raises(HelipError, match=r"the arm joint mixes .* differ in helip.margin_weight: name it in --by"):
        arms(runs, ["helip.score"])
    with pytest.raises(HelipError, match="are the same arm and seed"):
        arms([*runs[:3], load([write(tmp_path / "again.json", 2, 0.5)])[0]], ["helip.score"])
    with pytest.raises(HelipError, match=r"has no helip\.topk"):
        arms(runs, ["helip.topk"])
    with pytest.raises(HelipError, match=r"not every run has test/n: .* has test/m, test/t2i_mean_rank"):
        arm_lines(runs[:3], ["helip.score"], ["test/n"])
    other = load([write(tmp_path / "other.json", 5, 0.5, before=0.3)])
    with pytest.raises(HelipError, match="did not start from the same checkpoint"):
        start([*runs, *other], ["test/m"])
    assert start(runs, ["test/m", "seen.distinct_targets"]) == {"test/m": 10}
    with pytest.raises(HelipError, match="no run has a counterpart"):
        difference_lines(runs[:3], ["helip.score"], ["test/m"], {"helip.score": "joint"}, {"helip.score": "off"})
    with pytest.raises(HelipError, match="must be KEY=VALUE"):
        wanted("joint")


def test_folders_of_runs(tmp_path: Path) -> None:
    """In the order of the jobs; a job that was done before leads to its run, once; what has no result is left out."""
    jobs = [write(tmp_path / "sweep" / str(n) / "results.json", n, 0.1) for n in (0, 2, 10)]
    (tmp_path / "sweep" / "3").mkdir()
    for n in (4, 5):
        (tmp_path / "sweep" / str(n)).mkdir()
        status = {"status": "finished before", "run": str(jobs[0].parent if n == 4 else tmp_path / "earlier")}
        (tmp_path / "sweep" / str(n) / "status.json").write_text(json.dumps(status))
    earlier = write(tmp_path / "earlier" / "results.json", 7, 0.1)
    assert find_results([tmp_path / "sweep"]) == [jobs[0], jobs[1], earlier, jobs[2]]
    assert find_results([jobs[1].parent, jobs[1]]) == [jobs[1]]
    with pytest.raises(HelipError, match="nor a folder of runs with one"):
        find_results([tmp_path / "sweep" / "3"])


def test_an_option_of_a_group_names_an_arm(tmp_path: Path) -> None:
    """results.json holds the settings of `helip=NAME`; the run folder holds the name as it was typed."""
    for seed, preset in itertools.product((0, 1), ("margin", "'off'")):
        folder = tmp_path / f"{preset}-{seed}"
        write(folder / "results.json", seed, 0.2, margin={"m": 0.6 if preset == "margin" else 0.0})
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(f"- helip={preset}\n- seed={seed}\n")
    runs = load(sorted(tmp_path.iterdir()))
    assert [(line.key, line.count) for line in arm_lines(runs, ["helip"], ["test/m"])] == [
        (("off",), 2),
        (("margin",), 2),
    ]
    _, notes = difference_lines(runs, ["helip"], ["test/m"], wanted("helip=margin"), wanted("helip=off"))
    assert notes == []
    with pytest.raises(HelipError, match="has no model"):
        runs[0].setting("model")
