"""kill -9 at random moments and restarts: no finished block is computed twice, and the bytes are those of one run."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.synthetic import clustered
from helip.mining.miner import mine
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from tests.mining.kill_worker import RULES
from tests.mining.results import read_bytes

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds in which a run that is not killed must end


def start(folder: Path, backend: str, world: int, attempt: int) -> list[subprocess.Popen]:
    command = [sys.executable, "-m", "tests.mining.kill_worker", str(folder), backend]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    store = str(folder.parent / f"store{attempt}")
    return [
        subprocess.Popen([*command, str(rank), str(world), store], cwd=ROOT, env=environment) for rank in range(world)
    ]


def finished(folder: Path) -> set[int]:
    """Blocks that are on disk."""
    return {int(p.stem.removeprefix("block-")) for p in folder.parent.glob(f"{folder.name}.partial-*/block-*.npz")}


def computed(folder: Path) -> set[int]:
    """Blocks that the last run worked on."""
    log = folder.parent / "computed"
    blocks = {int(line) for line in log.read_text().split()} if log.exists() else set()
    log.unlink(missing_ok=True)
    return blocks


def mine_with_kills(folder: Path, backend: str, worlds: list[int], seed: int) -> None:
    """Start with worlds[0] ranks, kill them at a random moment, start with worlds[1], ...; the last finish."""
    rng = random.Random(seed)
    for attempt, world in enumerate(worlds):
        before = finished(folder)
        last = attempt == len(worlds) - 1
        processes = start(folder, backend, world, attempt)
        limit = time.monotonic() + PATIENCE
        wanted = len(before) + rng.randrange(1, 8)
        while not last and len(finished(folder)) < wanted and not folder.exists() and time.monotonic() < limit:
            time.sleep(0.001)
        time.sleep(0 if last else rng.random() * 0.05)
        for process in processes:
            if last:
                assert process.wait(timeout=PATIENCE) == 0
            else:
                process.kill()
                process.wait()
        assert last or folder.exists() or before <= finished(folder), "a finished block was lost"
        assert not before & computed(folder), "a finished block was computed again"


def check(tmp_path: Path, backend: str, worlds: list[int], seed: int) -> None:
    pairs = open_pairs(*clustered(2000, 48, 32, seed=9))
    settings = SearchSettings(backend=backend, **RULES)
    mine(pairs, tmp_path / "unbroken", settings, progress=False)
    mine_with_kills(tmp_path / "killed", backend, worlds, seed)
    assert read_bytes(tmp_path / "unbroken") == read_bytes(tmp_path / "killed")
    leftovers = {path.name for path in tmp_path.iterdir() if not path.name.startswith("store")}
    assert leftovers == {"unbroken", "killed"}


def test_three_kills(tmp_path):
    check(tmp_path, "exact", [1, 1, 1, 1], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["exact", "approximate", "pool"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ten_kills(tmp_path, backend, world):
    check(tmp_path, backend, [world] * 11, seed=world)


@pytest.mark.slow
def test_ranks_that_change_between_kills(tmp_path):
    check(tmp_path, "exact", [1, 3, 2, 1, 2, 3, 1], seed=7)
