"""Mining and training on remote shards: the same files as a local run, with a small cache and faults of the server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

from helip.storage import blocks, remote
from tests.faults.recorder import recording, wrong_pairs
from tests.programs.conftest import World
from tests.programs.conftest import make_world as make_world
from tests.programs.conftest import model_weights as model_weights
from tests.programs.conftest import shards as shards
from tests.samples import write_shards
from tests.storage.server import FAULTS, Server, serving

pytestmark = pytest.mark.slow

BLOCK = 4096
LIMIT = 16 * BLOCK
SHARDS, ROWS = 20, 6
STEPS = 30  # of 4 targets with a partner each: one epoch of the 114 training rows


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_cache: Path) -> None:
    """Shards of about 20 kB have several blocks, and together exceed the cache."""
    monkeypatch.setattr(blocks, "BLOCK", BLOCK)
    monkeypatch.setattr(remote, "BLOCK", BLOCK)
    monkeypatch.setattr(remote.Remote, "window", 8 * BLOCK)
    monkeypatch.setattr(remote, "cache_settings", remote.CacheSettings(tmp_path / "unused", LIMIT))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    written = write_shards(folder, [ROWS] * SHARDS)
    assert sum(shard.stat().st_size for shard in written) > 3 * LIMIT
    return folder


def trained(world: World, folder: Path, place: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Mine and train on the shards at `place`: the arrays of the index, and the weights."""
    settings = [
        f"dataset.path='{place}'",
        f"dataset.parts.train='0:{SHARDS - 1}'",
        f"+dataset.parts.val='{SHARDS - 1}:{SHARDS}'",
        "dataset.evaluators=[]",
        f"paths.artifacts={folder}/artifacts",
        f"paths.cache={folder}/cache",
        f"paths.cache_bytes={LIMIT}",
    ]
    mined = world.run("mine", *settings)
    assert mined.status == 0, mined.err
    made = world.run("train", *settings, f"train.max_steps={STEPS}", "train.log_every=10")
    assert made.status == 0, made.err
    weights = torch.load(made.folder / "final.pt", weights_only=True)
    return {file.name: file.read_bytes() for file in index_of(folder).glob("*.npy")}, weights


def index_of(folder: Path) -> Path:
    """The one hard-pair index below a folder of artefacts."""
    (rows,) = (folder / "artifacts").rglob("rows.npy")
    return rows.parent


@pytest.fixture
def far_world(make_world: Callable[..., World], tmp_path: Path) -> World:
    world = make_world(tmp_path)
    world.overrides = [one for one in world.overrides if "dataset.pa" not in one and "evaluators" not in one]
    return world


@pytest.fixture
def same_as_local(far_world: World, data: Path, tmp_path: Path) -> Iterator[Callable[[Path, str], None]]:
    near_index, near_weights = trained(far_world, tmp_path / "near", str(data))

    def check(folder: Path, place: str) -> None:
        index, weights = trained(far_world, folder, place)
        assert index.keys() == near_index.keys() and {"rows.npy", "scores.npy"} <= index.keys()
        assert index == near_index
        assert weights.keys() == near_weights.keys()
        assert all(torch.equal(weights[name], near_weights[name]) for name in weights if torch.is_tensor(weights[name]))
        held = sum(block.stat().st_size for block in (folder / "cache").rglob("*-*"))
        assert 0 < held <= LIMIT + BLOCK

    yield check


def pattern(server: Server) -> str:
    return f"{server.url}/{{00000..{SHARDS - 1:05d}}}.tar"


def test_over_http_as_local_also_with_fifty_faults(
    same_as_local: Callable[[Path, str], None], data: Path, tmp_path: Path
) -> None:
    with serving(data) as server:
        same_as_local(tmp_path / "far", pattern(server))
        assert server.sent > 3 * LIMIT
        server.faults = [fault for number in range(50) for fault in (None, None, FAULTS[number % 4])]
        with recording(data, tmp_path / "record"):
            same_as_local(tmp_path / "faulty", pattern(server))
    assert sum(server.injected[fault] for fault in FAULTS) == 50 and min(server.injected[f] for f in FAULTS) >= 12
    pairs, wrong = wrong_pairs(tmp_path / "record", index_of(tmp_path / "faulty"), topk=5)
    assert not wrong and pairs == STEPS * 4


def test_over_s3_as_local(same_as_local: Callable[[Path, str], None], data: Path, tmp_path: Path, s3: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="training")
    for shard in sorted(data.iterdir()):
        client.upload_file(str(shard), "training", f"set/{shard.name}")
    same_as_local(tmp_path / "far", "s3://training/set/")
