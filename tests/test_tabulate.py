"""experiments/tabulate.py: means and intervals over seeds."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("tabulate", ROOT / "experiments" / "tabulate.py")
assert spec is not None and spec.loader is not None
tabulate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tabulate)


def result(folder: Path, name: str, arm: str, before: float, after: float) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"helip": {"score": arm}, "metrics": {"before": {"m": before}, "after": {"m": after}}}))
    return path


def test_mean_and_interval_over_seeds(tmp_path: Path):
    files = [result(tmp_path, f"j{n}", "joint", 0.10, value) for n, value in enumerate((0.20, 0.22, 0.24))]
    files.append(result(tmp_path, "r", "random", 0.10, 0.15))
    # joint: mean 22, standard deviation 2, t(2) = 4.303: 4.303 * 2 / sqrt(3) = 4.97
    assert tabulate.table(files, ["m"]).splitlines()[2:] == [
        "| before |  | 10.00 |",
        "| joint | 3 | 22.00 ± 4.97 |",
        "| random | 1 | 15.00 |",
    ]


def test_runs_that_cannot_be_compared(tmp_path: Path):
    files = [result(tmp_path, "a", "joint", 0.10, 0.2), result(tmp_path, "b", "joint", 0.30, 0.2)]
    with pytest.raises(SystemExit, match="same checkpoint"):
        tabulate.table(files, ["m"])
    with pytest.raises(SystemExit, match="not every run has n"):
        tabulate.table(files[:1], ["n"])


def test_the_table_of_the_readme_is_the_one_of_the_results():
    files = sorted((ROOT / "experiments" / "helip_arms" / "results").glob("*.json"))
    names = [f"test/{way}_recall@{k}" for k in (1, 5) for way in ("i2t", "t2i")]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in tabulate.table(files, names).splitlines()[2:]:
        assert line.split("|", 2)[2] in readme
