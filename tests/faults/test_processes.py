"""Processes that die or share an artefact (loader workers, ranks, two runs), and shards that disappear."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import ARRAYS
from helip.cli import ROOT
from helip.embedding.embedder import Embedder
from helip.mining.block_store import BlockStore
from helip.programs import train as program
from helip.training.module import HelipModule
from tests.faults.injected import ended
from tests.faults.recorder import recording, wrong_pairs
from tests.faults.runs import no_wrong_pairs
from tests.programs.conftest import Result, World
from tests.samples import sample, write_tar

WORKER_PATIENCE = 30  # seconds from the death of a loader worker to the end of the run
RANK_PATIENCE = 60  # from the death of a rank to the end of the others


def refused(result: Result, what: str) -> None:
    assert result.status == 1 and "Traceback" not in result.err, result.err
    assert len(result.errors) == 1 and what in result.errors[0], result.err


@pytest.mark.parametrize(
    ("program", "owner", "name"),
    [("mine", Embedder, "predict_step"), pytest.param("train", HelipModule, "training_step", marks=pytest.mark.slow)],
)
def test_a_loader_worker_that_is_killed(make_world, tmp_path: Path, program: str, owner: type, name: str) -> None:
    """kill -9, as the kernel does when memory runs out: the run reports it and can be resumed."""
    world = make_world(tmp_path)
    settings = ["data.workers=1", "data.embed_batch_size=2", "dataset.evaluators=[]"]
    settings += ["train.max_steps=40", "train.checkpoint_every=1", "train.resume=auto"] if program == "train" else []
    if program == "train":
        assert world.run("mine").status == 0
    step, killed, others = getattr(owner, name), 0.0, multiprocessing.active_children()

    def killing(self: Any, batch: Any, batch_idx: int) -> Any:
        nonlocal killed
        if batch_idx == 1 and not killed:
            (worker,) = (child for child in multiprocessing.active_children() if child not in others)
            killed = time.monotonic()
            os.kill(int(worker.pid or 0), signal.SIGKILL)
        return step(self, batch, batch_idx)

    with mock.patch.object(owner, name, killing), recording(world.shards, tmp_path / "record"):
        result = world.run(program, *settings)
    assert killed and time.monotonic() - killed < WORKER_PATIENCE
    refused(result, "lower data.workers")
    with recording(world.shards, tmp_path / "record"):
        again = world.run(program, *settings)
    assert again.status == 0, again.err
    if program == "train":
        assert "resume: /" in again.out
        no_wrong_pairs(world, tmp_path / "record")


def group_member(leader: int, rank: int) -> int:
    """Process of a rank: the leader is 0, the others are its children and were started with LOCAL_RANK."""
    if rank == 0:
        return leader
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
            environment = status.with_name("environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == leader and f"LOCAL_RANK={rank}".encode() in environment:
            return int(status.parent.name)
    raise AssertionError(f"process {leader} has no rank {rank}")


def gone(pid: int) -> bool:
    """Whether a process has ended, even if its status was not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_rank_of_two_is_killed(make_world, folder_model: Path, tmp_path: Path, victim: int) -> None:
    """The other rank ends within RANK_PATIENCE with a message; the same command resumes."""
    world = make_world(tmp_path, [f"model.name=local-dir:{folder_model}", "model.pretrained=null"])
    settings = ["train.max_steps=400", "train.checkpoint_every=5", "dataset.evaluators=[]", "train.resume=auto"]
    command = [sys.executable, "train.py", *world.overrides, "trainer=ddp_cpu", *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, start_new_session=True, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        limit = time.monotonic() + 200
        while not list((tmp_path / "runs").glob("train/*/checkpoints/step-*.ckpt")):
            assert process.poll() is None and time.monotonic() < limit, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.05)
        pids = [group_member(process.pid, rank) for rank in (0, 1)]
        os.kill(pids[victim], signal.SIGKILL)
        began = time.monotonic()
        while not all(gone(pid) for pid in pids):
            assert time.monotonic() - began < RANK_PATIENCE, (tmp_path / "log").read_text()[-3000:]
            process.poll()
            time.sleep(0.05)
        print(f"the other rank ended after {time.monotonic() - began:.1f} s")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    said = (tmp_path / "log").read_text()
    assert "error: another process of this run has failed" in said or "rank 1" in said, said[-3000:]
    assert process.returncode != 0
    resumed = subprocess.run(
        [*command, "train.max_steps=400"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )
    assert resumed.returncode == 0 and "resume: /" in resumed.stdout, resumed.stderr[-3000:]


def test_two_runs_that_mine_the_same_at_once(make_world, tmp_path: Path) -> None:
    """One of them mines, the other waits and finds it; each row is embedded, each block searched, once."""
    alone = make_world(tmp_path / "alone")
    assert alone.run("mine", "+search.block_rows=8").status == 0
    world = make_world(tmp_path / "both")
    record = tmp_path / "record"
    write, keep = EmbeddingStore.write, BlockStore.write

    def written(self: EmbeddingStore, rows: Any, *arrays: Any) -> None:
        time.sleep(0.4)  # so that the other run starts meanwhile
        note({"pid": os.getpid(), "rows": rows.tolist()})
        write(self, rows, *arrays)

    def kept(self: BlockStore, block: int, ranked: Any) -> None:
        note({"pid": os.getpid(), "block": block})
        keep(self, block, ranked)

    def note(line: dict) -> None:
        with open(record, "a") as file:
            file.write(json.dumps(line) + "\n")

    def child(number: int) -> int:
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                with mock.patch.object(EmbeddingStore, "write", written), mock.patch.object(BlockStore, "write", kept):
                    separate = World(tmp_path / f"runs{number}", world.shards, world.weights, world.overrides)
                    result = separate.run("mine", "+search.block_rows=8", "data.embed_batch_size=8")
                    (tmp_path / f"said{number}").write_text(result.out + result.err)
                    status = result.status
            finally:
                os._exit(status)
        return pid

    children = [child(number) for number in range(2)]
    statuses = [ended(pid) for pid in children]
    said = [(tmp_path / f"said{number}").read_text() for number in range(2)]
    assert statuses == [0, 0], said
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert len({line["pid"] for line in lines}) == 1
    assert sorted(row for line in lines for row in line.get("rows", [])) == list(range(32))
    blocks = [line["block"] for line in lines if "block" in line]
    assert blocks and len(set(blocks)) == len(blocks)
    assert ["another job makes" in one for one in said].count(True) == 1, said
    mined = [next((one.folder / "artifacts/folder/hard_pairs").glob("*/meta.json")).parent for one in (alone, world)]
    assert mined[0].name == mined[1].name
    for name in ARRAYS:
        assert (mined[0] / f"{name}.npy").read_bytes() == (mined[1] / f"{name}.npy").read_bytes()


def vanish(shard: Path) -> None:
    shard.unlink()


def grow(shard: Path) -> None:
    """Another shard with the same name: other and more samples."""
    write_tar(shard, [(f"00001{n:04d}", sample(500 + n)) for n in range(13)])


@pytest.fixture
def own_shards(make_world, shards: Path, tmp_path: Path) -> World:
    """A world whose shards may be changed."""
    world = make_world(tmp_path)
    shutil.copytree(shards, tmp_path / "own")
    path = f"dataset.path={tmp_path}/own"
    overrides = [path if one.startswith("dataset.path=") else one for one in world.overrides]
    return World(tmp_path, tmp_path / "own", world.weights, overrides)


TRAIN = ["train.max_steps=6", "dataset.evaluators=[]"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("change", "what"), [(vanish, "can no longer be opened"), (grow, "changed since it was indexed")]
)
def test_a_shard_that_goes_away_under_a_training(
    own_shards: World, change: Callable[[Path], None], what: str, workers: int
) -> None:
    """After the shards were indexed and before they are read; a worker gives the same message."""
    assert own_shards.run("mine").status == 0
    original = program.create_clip

    def changed(*args: Any, **kwargs: Any) -> Any:
        change(own_shards.shards / "00001.tar")
        return original(*args, **kwargs)

    with mock.patch.object(program, "create_clip", changed):
        result = own_shards.run("train", *TRAIN, f"data.workers={workers}")
    refused(result, "00001.tar " + what)


def test_a_shard_that_is_missing_is_refused_by_name(own_shards: World) -> None:
    named = f"dataset.path='{own_shards.shards}/{{00000..00003}}.tar'"
    assert own_shards.run("mine", named).status == 0
    vanish(own_shards.shards / "00001.tar")
    result = own_shards.run("train", named, *TRAIN)
    refused(result, "1 of the 4 shards of ")
    assert "the first is 00001.tar" in result.errors[0]


@pytest.mark.parametrize("change", [vanish, grow])
def test_pairs_of_other_shards_are_never_trained_on(own_shards: World, change: Callable[[Path], None]) -> None:
    """An index in paths.index is refused with both fingerprints; a searched one is not found."""
    index = own_shards.folder / "named"
    assert own_shards.run("mine", f"paths.index={index}").status == 0
    assert own_shards.run("mine").status == 0
    change(own_shards.shards / "00001.tar")
    refused(own_shards.run("train", *TRAIN, f"paths.index={index}"), "were mined on other shards (fingerprint ")
    result = own_shards.run("train", *TRAIN, "mine.auto_limit=1")
    refused(result, "auto_limit")
    record = own_shards.folder / "record"
    with recording(own_shards.shards, record):
        assert own_shards.run("train", *TRAIN).status == 0
    metas = (own_shards.folder / "artifacts/folder/hard_pairs").glob("*/meta.json")
    newest = max(metas, key=lambda meta: meta.stat().st_mtime_ns).parent
    pairs, wrong = wrong_pairs(record, newest, 5)
    assert pairs == 6 * 4 and wrong == []
