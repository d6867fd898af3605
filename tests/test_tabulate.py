"""experiments/tabulate.py on its command line: tables of the documents, Markdown, CSV and PNG."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARMS = sorted((ROOT / "experiments" / "helip_arms" / "results").glob("*.json"))
RECALL = ["test/i2t_recall@1", "test/t2i_recall@1", "test/i2t_recall@5", "test/t2i_recall@5"]


def tabulate(*arguments: object) -> subprocess.CompletedProcess[str]:
    """From another folder, as a checkout that is not installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, ROOT / "experiments" / "tabulate.py", *arguments]
    return subprocess.run(list(map(str, command)), cwd="/", capture_output=True, text=True, env=environment)


def test_a_documented_table_is_the_one_of_the_results() -> None:
    result = tabulate(*ARMS, "--metrics", *RECALL)
    assert result.returncode == 0, result.stderr
    readme = (ROOT / "experiments" / "helip_arms" / "README.md").read_text(encoding="utf-8")
    lines = result.stdout.splitlines()[2:]
    assert len(lines) == 4 and all(line.split("|", 2)[2] in readme for line in lines)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """All that one call writes, from the runs in the repository: joint, random and off with seeds 0 to 2."""
    out = tmp_path_factory.mktemp("tables") / "arms"
    joint = "helip.score=joint"
    more = ["--difference", joint, "helip.score=random", "--difference", joint, "helip.score=off", "--out", out]
    result = tabulate(*ARMS, "--metrics", "test/t2i_recall@1", "test/t2i_mean_rank", *more)
    assert result.returncode == 0, result.stderr
    assert out.with_suffix(".md").read_text() == result.stdout
    return out


def test_markdown_with_differences(written: Path) -> None:
    """By hand: t2i_recall@1 of joint minus random is 0.9917, 0.3306, 0.3306: mean 0.551, ± 4.303 * 0.3817 / sqrt(3)."""
    lines = written.with_suffix(".md").read_text().splitlines()
    assert lines[0] == "| helip.score | seeds | test/t2i_recall@1 (%) | test/t2i_mean_rank |"
    assert lines[7] == "| difference | pairs | test/t2i_recall@1 (points) | test/t2i_mean_rank |"
    assert lines[9].startswith("| joint - random | 3 | +0.55 ± 0.95 | ")
    assert lines[-1] == "joint - off: the two also differ in helip.margin_weight."


def test_csv_has_the_single_values(written: Path) -> None:
    with open(written.with_suffix(".csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["table"], row["line"]) for row in rows][::2] == [
        ("arm", "joint"), ("arm", "random"), ("arm", "off"), ("difference", "joint - random"),
        ("difference", "joint - off")]  # fmt: skip
    for row in rows:
        values = [float(value) for value in row["values"].split()]
        assert len(values) == int(row["runs"]) == 3
        assert float(row["mean"]) == pytest.approx(sum(values) / 3, abs=1e-4)
        assert float(row["low"]) < float(row["mean"]) < float(row["high"])


def test_pictures(written: Path) -> None:
    for name in ("arms.png", "arms-difference.png"):
        assert (written.parent / name).read_bytes().startswith(b"\x89PNG")


def test_an_error_is_one_sentence() -> None:
    result = tabulate(*ARMS, "--metrics", "test/t2i_recall@2")
    assert result.returncode == 1 and result.stderr.startswith("error: not every run has test/t2i_recall@2")
    assert len(result.stderr.splitlines()) == 1
