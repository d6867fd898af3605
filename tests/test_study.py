"""The tables of the study and the README have the numbers of its results."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "experiments" / "does_it_help"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("study", STUDY / "study.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["study"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_tables_are_made_from_the_results(study: ModuleType) -> None:
    arms = study.by_arm(study.load(sorted((STUDY / "results").glob("*.json"))))
    assert study.tables(arms) == (STUDY / "tables.md").read_text(encoding="utf-8")


def test_primary_interval_by_hand(study: ModuleType) -> None:
    from scipy import stats

    found = study.estimate([1.0, 2.0, 4.0], 0.975)
    assert found.half == pytest.approx(stats.t.ppf(0.9875, 2) * (7 / 3) ** 0.5 / 3**0.5)
    assert study.verdict(found) == "not shown"
    assert study.verdict(study.estimate([1.0, 1.1, 0.9], 0.975)) == "helps"
    assert study.verdict(study.estimate([-1.0, -1.1, -0.9], 0.975)) == "hurts"


@pytest.mark.parametrize(
    "place",
    [ROOT / "README.md", ROOT / "docs/recipes.md", STUDY / "README.md", STUDY.parent / "hard_batches/README.md"],
)
def test_numbers_with_intervals_stand_in_the_tables(place: Path) -> None:
    tables = [STUDY / "tables.md", STUDY.parent / "hard_batches/tables.md"]
    known = "".join(path.read_text(encoding="utf-8") for path in tables).replace("+", "")
    text = place.read_text(encoding="utf-8")
    quoted = {found.replace("+", "") for found in re.findall(r"[+-]?\d+\.\d\d ± \d\.\d\d", text)}
    assert quoted
    assert not {number for number in quoted if number not in known}
