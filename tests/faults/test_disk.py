"""Disks that are full or read-only: one sentence, no damaged artefact loads, and the same command resumes."""

import errno
import gc
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest import mock

import pytest
import torch

from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.artifacts.sums import check_sums
from tests.faults.injected import SmallDisk, in_child, longest_file
from tests.faults.recorder import recording
from tests.faults.runs import TRAINING, leftovers, no_wrong_pairs, outcome
from tests.programs import conftest
from tests.programs.conftest import Result, World

# stage, place, call, bytes that are still free at that call
FULL: list[tuple[str, str, int, int]] = [
    ("shard index", "helip.artifacts.shards.write_sums", 1, 0),
    ("embedding, no room for the store", "helip.artifacts.embeddings.new_array", 2, 0),
    ("embedding, no room for its sums", "helip.artifacts.embeddings.write_sums", 1, 0),
    ("mining, plan", "helip.mining.plan.write_json", 1, 0),
    ("mining, a block", "helip.mining.block_store.BlockStore.write", 2, 0),
    ("mining, no room for the index", "helip.mining.block_store.new_array", 2, 0),
    ("mining, half assembled", "helip.mining.block_store.write_meta", 1, 0),
    ("training, a checkpoint", "pytorch_lightning.Trainer.save_checkpoint", 2, 8192),
    ("results", "helip.programs.train.write_json", 1, 0),
]
QUICK = (1, 4, 7)


@contextmanager
def full_from(disk: SmallDisk, place: str, call: int, free: int) -> Iterator[None]:
    """The disk has `free` bytes left from the `call`-th call of a place on, until the block ends."""
    original, filler, calls = resolve_name(place), disk.folder / "filler", 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            fill(filler, free)
        return original(*args, **kwargs)

    try:
        with mock.patch(place, wrapped):
            yield
        assert filler.exists(), f"{place} was not called {call} times"
    finally:
        filler.unlink(missing_ok=True)


def fill(path: Path, free: int) -> None:
    there = os.statvfs(path.parent)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, there.f_bavail * there.f_frsize - free)


def refused(result: Result, what: str) -> None:
    assert result.status == 1 and "Traceback" not in result.err, result.err
    assert len(result.errors) == 1 and what in result.errors[0], result.err


def whole(folder: Path) -> int:
    """Checks that all artefacts below a folder are whole. Returns their number."""
    loads: dict[str, Callable[[Path], Any]] = {"hard_pairs": HardPairIndex.load, "embeddings": EmbeddingStore}
    found = 0
    for meta in (folder / "artifacts").rglob("meta.json"):
        artefact = loads[meta.parent.parent.name](meta.parent)
        if isinstance(artefact, HardPairIndex) or artefact.complete:
            assert check_sums(meta.parent) == []
        found += 1
    for meta in folder.rglob("shards.json"):
        assert len(ShardIndex.load(meta.parent)) == 40 and check_sums(meta.parent) == []
        found += 1
    for checkpoint in folder.rglob("*.ckpt"):
        if zipfile.is_zipfile(checkpoint):  # the check of train.resume
            assert torch.load(checkpoint, weights_only=True)["global_step"] > 0
            found += 1
    return found


def run_out(world: World, disk: SmallDisk, stages: list, record: Path) -> None:
    """Each run finds the disk full one stage later; the last one finishes, and no pair was wrong."""
    for stage, place, call, free in stages:
        with full_from(disk, place, call, free), recording(world.shards, record):
            result = world.run("train", *TRAINING)
        refused(result, "no room" if "no room" in str(result.errors) else "is full")
        whole(world.folder)
        assert leftovers(world.folder) == [], stage
    with recording(world.shards, record):
        finished = world.run("train", *TRAINING)
    assert finished.status == 0, finished.err
    assert whole(world.folder) > 3
    no_wrong_pairs(world, record)


def on_disk(make_world: Callable[..., World], disk: SmallDisk) -> World:
    disk.set("size=96m")  # a checkpoint of the tiny model takes 10
    return make_world(disk.folder)


def test_a_disk_that_is_full_in_one_place_of_every_stage(
    make_world, unbroken, small_disk: SmallDisk, tmp_path: Path
) -> None:
    world = on_disk(make_world, small_disk)
    run_out(world, small_disk, [FULL[number] for number in QUICK], tmp_path / "record")
    assert outcome(world) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("stage", FULL, ids=[stage[0] for stage in FULL])
def test_a_disk_that_is_full_in_each_place(make_world, unbroken, small_disk: SmallDisk, tmp_path: Path, stage) -> None:
    world = on_disk(make_world, small_disk)
    run_out(world, small_disk, [stage], tmp_path / "record")
    assert outcome(world) == unbroken


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """The same message without mounting: the store is made whole or not at all."""

    def create() -> int:
        with longest_file(4096):
            try:
                EmbeddingStore.create(tmp_path / "store", 1000, 16, 16, {"identity": "x"})
            except OSError as error:
                return 3 if error.errno == errno.EFBIG else 4
        return 5

    assert in_child(create) == 3
    assert not (tmp_path / "store" / "meta.json").exists()


@pytest.mark.parametrize("what", ["paths.artifacts", "paths.runs"])
def test_a_read_only_output_folder(make_world, small_disk: SmallDisk, tmp_path: Path, what: str) -> None:
    world = make_world(tmp_path / "world")
    places = [f"paths.artifacts={small_disk.folder}/a"] if what == "paths.artifacts" else []
    if what == "paths.runs":
        world = World(small_disk.folder, world.shards, world.weights, world.overrides)

    def read_only(name: str) -> None:
        small_disk.set("ro")
        launch(name)

    launch = conftest.launch
    for program in ("mine", "train"):
        with mock.patch.object(conftest, "launch", read_only):
            result = (
                world.run(program, *places, "train.max_steps=1") if program == "train" else world.run("mine", *places)
            )
        small_disk.set("rw")
        refused(result, "Read-only file system")
    assert os.listdir(small_disk.folder) == (["runs"] if what == "paths.runs" else [])
    assert world.run("mine", *places).status == 0
    if what == "paths.artifacts":  # artefacts of another user can be trained on
        gc.collect()  # closes maps that are open for writing
        small_disk.set("ro")
        result = world.run("train", *places, "train.max_steps=1", "dataset.evaluators=[]")
        assert result.status == 0, result.err
