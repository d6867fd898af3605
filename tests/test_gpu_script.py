"""benchmarks/gpu.sh: its stages exist, and each has its limit and its log."""

import os
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import STAGES

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.sh"
TOTAL = 480


def test_its_stages_are_functions_of_the_modules():
    lines = re.findall(r'^stage (\w+) (\d+) "\$PY" -m (\S+) (\S+)', SCRIPT.read_text(), re.MULTILINE)
    (default,) = re.findall(r"STAGES:-([\w ]+)", SCRIPT.read_text())
    assert [name for name, *_ in lines] == default.split()
    assert all(0 < int(limit) < TOTAL for _, limit, *_ in lines)
    ours = [(name, argument) for name, _, module, argument in lines if module == "benchmarks.gpu"]
    assert all(name == argument for name, argument in ours)
    assert {name for name, _ in ours} == {*STAGES, "compile"}
    for name, module in STAGES.items():
        pytest.importorskip("triton")
        assert callable(getattr(import_module(f"benchmarks.gpu.{module}"), name))


def test_a_stage_that_fails_or_hangs_does_not_end_the_others(tmp_path):
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        'case "$*" in *"gpu env"*) exit 3;; *"gpu kernel"*) sleep 60;; esac\necho "$3 ran"\n'
    )
    python.chmod(0o755)
    # a limit below a second would be rounded to 0, no limit for `timeout`: 80 s of `kernel` become 1 here
    environment = {**os.environ, "BENCH_DEVICE": "cpu", "PY": str(python), "OUT": str(tmp_path / "out")}
    environment |= {"STAGES": "env kernel tune train", "SLOW": "1/80"}
    run = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=50)
    assert run.returncode == 0, run.stderr
    assert "== env: rc 3" in run.stdout and "== kernel: rc 124" in run.stdout
    assert "== tune: rc 0" in run.stdout and "== train: rc 0" in run.stdout
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.log")) == ["env", "kernel", "train", "tune"]
    assert "ours_hard" in (tmp_path / "calls").read_text()
