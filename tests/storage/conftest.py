"""Fixtures of the tests of remote shards: an own cache, and an S3 server of this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helip.storage import remote
from helip.storage.blocks import BLOCK


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of 64 blocks, no known shard, and short waits before a request is repeated."""
    monkeypatch.setattr(remote, "known_facts", {})
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(remote, "cache_settings", remote.CacheSettings(tmp_path / "cache", 64 * BLOCK))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server without buckets; its credentials are in the environment."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    before = dict(os.environ)
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing-key",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    yield f"http://{host}:{port}"
    os.environ.clear()
    os.environ |= before
    server.stop()
