"""Blocks that are fetched before they are read: the same batches, no block twice, nothing for local files."""

import threading
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from helip.errors import HelipError
from helip.storage import blocks, remote
from helip.storage.ahead import THREADS, Ahead
from helip.storage.base import as_shard
from helip.storage.remote import Remote
from tests.data.streams import batches, same, unit_reader
from tests.samples import write_shards
from tests.storage.server import FAULTS, forget, serving

BLOCK = 4096
STEPS, TARGETS = 12, 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setattr(blocks, "BLOCK", BLOCK)
    monkeypatch.setattr(remote, "BLOCK", BLOCK)
    monkeypatch.setattr(remote, "cache_settings", remote.CacheSettings(own_cache, 1000 * BLOCK))


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return write_shards(tmp_path / "data", [12, 12, 12])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_local_ones_and_no_block_is_fetched_twice(
    shards: list[Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    local = batches(unit_reader(shards), STEPS, TARGETS)
    with serving(shards[0].parent) as server:
        read = unit_reader([as_shard(address) for address in server.addresses(shards)])
        sent = {}
        for ahead in (0, remote.AHEAD):
            monkeypatch.setattr(remote, "AHEAD", ahead)
            forget(own_cache)
            before = server.sent
            found = batches(read, STEPS, TARGETS, workers=workers)
            sent[ahead] = server.sent - before
            assert len(found) == len(local) and all(map(same, found, local))
    if not workers:  # two processes may fetch one block at the same time
        assert sent[remote.AHEAD] == sent[0] > 0


def test_faults_in_the_background_change_nothing(shards: list[Path], own_cache: Path) -> None:
    local = batches(unit_reader(shards), STEPS, TARGETS)
    with serving(shards[0].parent) as server:
        read = unit_reader([as_shard(address) for address in server.addresses(shards)])
        forget(own_cache)
        server.faults = [None, *(fault for name in FAULTS for fault in (name, None, None))]
        assert all(map(same, batches(read, STEPS, TARGETS), local))
        assert all(server.injected[name] == 1 for name in FAULTS)


def test_a_read_waits_for_its_block_and_asks_for_nothing_itself(shards: list[Path], own_cache: Path) -> None:
    local = SampleReader(ShardIndex.build(shards))
    with serving(shards[0].parent) as server:
        far = SampleReader(ShardIndex.build(server.addresses(shards)))
        forget(own_cache)
        far.read(0)  # its answer shows that the server supports ranges
        for row in (30, 17):
            far.fetch_ahead(row)
        server.latency = 0.2
        assert [far.read(row) for row in (17, 30)] == [local.read(row) for row in (17, 30)]
        requests = server.requests
        assert [far.read(row) for row in (30, 17)] == [local.read(row) for row in (30, 17)]
        assert server.requests == requests


def test_a_server_without_ranges_is_not_asked_ahead(shards: list[Path], own_cache: Path) -> None:
    with serving(shards[0].parent, ranges=False) as server:
        far = SampleReader(ShardIndex.build(server.addresses(shards)))
        forget(own_cache)
        with mock.patch.object(Ahead, "ask") as ask:
            far.read(0)
            far.fetch_ahead(30)
        ask.assert_not_called()


def test_local_files_are_not_asked_ahead(shards: list[Path]) -> None:
    read = unit_reader(shards)
    assert read.reader.ahead == 0
    with mock.patch.object(SampleReader, "fetch_ahead") as fetch:
        batches(read, 2, TARGETS)
    fetch.assert_not_called()


@pytest.mark.parametrize(("limit", "rows"), [(16, 2), (256, 32), (10_000, 64)])
def test_rows_ahead_leave_room_in_the_cache(own_cache: Path, limit: int, rows: int) -> None:
    remote.keep_blocks(own_cache, limit * BLOCK)
    assert Remote().ahead == rows


def test_work_is_done_once_in_order_by_few_threads() -> None:
    done: list[int] = []
    gate, most = threading.Event(), 0

    def work(key: int) -> None:
        nonlocal most
        gate.wait(10)
        most = max(most, threading.active_count())
        done.append(key)
        if key % 2:
            raise HelipError("dropped")

    before, ahead = threading.active_count(), Ahead(work)
    for key in [*range(3 * THREADS), 5, 5]:
        ahead.ask(key)
    assert not done
    gate.set()
    for key in range(3 * THREADS + 1):
        ahead.wait(key)  # the last key was never queued
    assert sorted(done) == [*range(3 * THREADS)] and most <= before + THREADS
    ahead.ask(5)
    ahead.wait(5)
    assert done.count(5) == 2
