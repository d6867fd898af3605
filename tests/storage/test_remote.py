"""Shards behind HTTP and S3, on servers of this machine: the same rows and bytes as local, also after faults."""

import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

from rich.console import Console

from helip.artifacts.datasets import DatasetSpec, index_folder, open_index
from helip.artifacts.places import resolve_shards
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from helip.errors import HelipError
from helip.formats.pixels import Pixels
from helip.formats.resize import resize
from helip.secrets import without_credentials, without_secrets
from helip.storage import remote
from helip.storage.base import Address
from helip.storage.blocks import BLOCK, BlockCache
from tests.samples import sample, write_shards, write_tar
from tests.storage.server import FAULTS, forget, serving


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return write_shards(tmp_path / "data", [5, 3, 6])


def assert_same(local: ShardIndex, far: ShardIndex) -> None:
    assert far.fingerprint == local.fingerprint and np.array_equal(far.offset, local.offset)
    ours, theirs = SampleReader(local), SampleReader(far)
    for row in np.random.default_rng(0).permutation(len(local)).tolist():
        assert theirs.read(row) == ours.read(row) and theirs.metadata(row) == ours.metadata(row)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etag", [True, False])
def test_http_gives_the_rows_and_bytes_of_the_files(shards: list[Path], ranges: bool, etag: bool) -> None:
    with serving(shards[0].parent, ranges=ranges, etag=etag) as server:
        far = ShardIndex.build(f"{server.url}/{{00000..00002}}.tar")
        assert [shard.name for shard in far.shards] == [shard.name for shard in shards]
        assert_same(ShardIndex.build(shards), far)
        requests = server.requests
        assert_same(ShardIndex.build(shards), far)
        assert server.requests == requests  # all blocks are in the cache


def test_an_index_of_addresses_is_saved_and_found_again(shards: list[Path], tmp_path: Path) -> None:
    with serving(shards[0].parent) as server:
        spec = DatasetSpec("far", server.addresses(shards))
        first = open_index(spec, tmp_path / "artifacts", "skip", Console(quiet=True))
        again = open_index(spec, tmp_path / "artifacts", "skip", Console(quiet=True))
        assert again.shards == first.shards and isinstance(again.shards[0], Address)
        assert len(list((tmp_path / "artifacts/far").glob("shards-*/shards.json"))) == 1
        assert_same(ShardIndex.build(shards), again)


def test_fifty_faults_change_no_byte(shards: list[Path], own_cache: Path) -> None:
    local = ShardIndex.build(shards)
    with serving(shards[0].parent) as server:
        far = ShardIndex.build(server.addresses(shards))
        rng = random.Random(0)
        for fault in [*FAULTS * 13][:50]:
            forget(own_cache)
            server.faults = [fault]
            row = rng.randrange(len(local))
            assert SampleReader(far).read(row) == SampleReader(local).read(row)
        assert sum(server.injected[fault] for fault in FAULTS) == 50 and min(server.injected[f] for f in FAULTS) >= 12


def test_a_server_that_stays_away_is_one_sentence(shards: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TRIES", 3)
    with serving(shards[0].parent) as server:
        far = ShardIndex.build(server.addresses(shards))
        reader = SampleReader(far)
        forget(remote.cache_settings.folder)
        server.faults = ["503"] * 20
        with pytest.raises(HelipError, match=r"shard http://127\.0\.0\.1:\d+/0000\d\.tar cannot be reached \(.*\)"):
            reader.read(0)
        with pytest.raises(HelipError, match=r"no shards at http://127.0.0.1:\d+/nothing\.tar"):
            resolve_shards(f"{server.url}/nothing.tar")
    monkeypatch.setattr(remote, "FRESH", -1.0)
    with pytest.raises(HelipError, match=r"no shards at|cannot be reached"):
        resolve_shards("http://127.0.0.1:9/0.tar")


def test_a_shard_that_changed_is_noticed(shards: list[Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(shards[0].parent) as server:
        far = ShardIndex.build(server.addresses(shards))
        reader = SampleReader(far)
        reader.read(0)
        old = index_folder("x", far.shards, Path("/"))
        write_tar(shards[0], [(f"{n:09d}", sample(50 + n)) for n in range(5)])  # the same size and the same names
        forget(own_cache)
        with pytest.raises(HelipError, match=r"00000\.tar changed since it was indexed"):
            reader.read(1)
        monkeypatch.setattr(remote, "FRESH", -1.0)
        assert index_folder("x", far.shards, Path("/")) != old


def test_a_cache_smaller_than_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    noise = np.random.default_rng(0)
    entries = [(f"{n}", {"jpg": noise.bytes(900_000), "txt": b"x"}) for n in range(40)]
    path = write_tar(tmp_path / "data/0.tar", entries)
    monkeypatch.setattr(remote, "cache_settings", remote.CacheSettings(own_cache, 16 * BLOCK))
    local = ShardIndex.build([path])
    with serving(path.parent) as server:
        far = ShardIndex.build([f"{server.url}/0.tar"])
        ours, theirs = SampleReader(local), SampleReader(far)
        for row in np.random.default_rng(1).integers(0, 40, 60).tolist():
            assert theirs.read(row) == ours.read(row)
    held = sum(block.stat().st_size for block in own_cache.rglob("*-*"))
    assert 0 < held <= 17 * BLOCK < path.stat().st_size


@pytest.mark.parametrize(("blocks", "fits"), [(64, True), (16, False)])
def test_a_server_without_ranges_sends_a_shard_once_if_the_cache_can_hold_it(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, fits: bool
) -> None:
    noise = np.random.default_rng(0)
    entries = [(f"{n}", {"jpg": noise.bytes(700_000), "txt": b"x"}) for n in range(24)]  # 17 blocks
    path = write_tar(tmp_path / "data/0.tar", entries)
    monkeypatch.setattr(remote, "cache_settings", remote.CacheSettings(own_cache, blocks * BLOCK))
    local = ShardIndex.build([path])
    with serving(path.parent, ranges=False) as server:
        far = ShardIndex.build([f"{server.url}/0.tar"])
        forget(own_cache)
        ours, theirs, before = SampleReader(local), SampleReader(far), server.sent
        for row in (13, 0, 23, 12, 14, 5):
            assert theirs.read(row) == ours.read(row)
        sent = (server.sent - before) / path.stat().st_size
        assert sent == 1 if fits else sent > 1
        kept = [block for block in own_cache.rglob("*-*") if block.stat().st_size == BLOCK]
        if fits:
            assert len(kept) == 16 and len(list(own_cache.rglob("*-*"))) == 17
            kept[0].unlink()  # a missing block between cached blocks
            wanted = path.stat().st_size
            assert theirs.storages.of(far.shards[0]).read(far.shards[0], 0, wanted) == path.read_bytes()
        else:
            assert len(kept) < 16


def test_remote_shards_are_resized_as_local_ones(shards: list[Path], tmp_path: Path) -> None:
    resize(shards[0].parent, tmp_path / "near", Pixels(32))
    with serving(shards[0].parent) as server:
        resize(f"{server.url}/{{00000..00002}}.tar", tmp_path / "far", Pixels(32))
    near, far = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("near", "far"))
    assert near == far and len(near) == 7


def test_least_recently_used_blocks_go_first(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 16 * BLOCK)
    for number in range(16):
        cache.put("a", number, bytes(BLOCK))
        os.utime(next(tmp_path.rglob(f"*-{number:x}")), (number, number))
    assert cache.get("a", 0, 0, 10) == bytes(10)  # now the most recently used
    cache.put("a", 16, bytes(BLOCK))
    assert cache.get("a", 0, 5, 6) == b"\0" and cache.get("a", 1, 0, 1) is None
    assert cache.get("b", 0, 0, 1) is None


def test_threads_and_copies_share_the_cache(shards: list[Path]) -> None:
    local = ShardIndex.build(shards)
    with serving(shards[0].parent) as server:
        far = ShardIndex.build(server.addresses(shards))
        wrong: list[int] = []

        def read(seed: int) -> None:
            ours, theirs = SampleReader(local), SampleReader(far)
            for row in np.random.default_rng(seed).permutation(len(local)).tolist():
                wrong.extend([row] if theirs.read(row) != ours.read(row) else [])

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_forked_process_reads_on(shards: list[Path], own_cache: Path) -> None:
    with serving(shards[0].parent) as server:
        far = ShardIndex.build(server.addresses(shards))
        reader, expected = SampleReader(far), SampleReader(ShardIndex.build(shards)).read(6)
        reader.read(0)
        forget(own_cache)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if reader.read(6) == expected else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_credentials_stay_out(shards: list[Path], tmp_path: Path) -> None:
    for text, shown in (
        ("s3://KEY:SECRET@bucket/a.tar", "s3://bucket/a.tar"),
        ("https://h/a.tar?X-Amz-Signature=abc&b=c", "https://h/a.tar?***"),
        ("see http://u:p@h:80/x.tar, then", "see http://h:80/x.tar, then"),
        ("/local/a@b?c.tar", "/local/a@b?c.tar"),
    ):
        assert without_credentials(text) == shown
    assert without_secrets({"dataset": {"path": ["https://u:p@h/a.tar?sig=q"]}}) == {
        "dataset": {"path": ["https://h/a.tar?***"]}
    }
    with serving(shards[0].parent) as server:
        signed = f"{server.url.replace('http://', 'http://user:hunter2@')}/00000.tar?signature=hunter3"
        spec = DatasetSpec("far", signed)
        index = open_index(spec, tmp_path / "artifacts", "skip", Console(quiet=True))
        assert SampleReader(index).read(0).image
        written = b"".join(path.read_bytes() for path in (tmp_path / "artifacts").rglob("*") if path.is_file())
        assert b"hunter" not in written and b"00000.tar" in written
        assert "hunter" not in index.where(0) + repr(index)


def test_s3_gives_the_rows_and_bytes_of_the_files(s3: str, shards: list[Path], own_cache: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="bucket")
    for shard in shards:
        client.upload_file(str(shard), "bucket", f"set/{shard.name}")
    local = ShardIndex.build(shards)
    for named in ("s3://bucket/set/{00000..00002}.tar", "s3://bucket/set/", "s3://bucket/set/*.tar"):
        assert_same(local, ShardIndex.build(named))
    far = ShardIndex.build("s3://bucket/set/")
    reader = SampleReader(far)
    reader.read(0)
    write_tar(shards[0], [(f"{n:09d}", sample(50 + n)) for n in range(5)])
    client.upload_file(str(shards[0]), "bucket", "set/00000.tar")
    forget(own_cache)
    with pytest.raises(HelipError, match=r"s3://bucket/set/00000\.tar changed since it was indexed"):
        reader.read(1)
