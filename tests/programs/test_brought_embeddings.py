"""encoders=precomputed with folders of clip-retrieval and .npz files: the same hard pairs as from the own store."""

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from rich.console import Console

from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import ARRAYS, HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.embedding.precomputed import Precomputed
from helip.ranks import artefact_lock
from tests.embedding.clip_retrieval import write_folder
from tests.programs.conftest import TRAIN, Result, World


@pytest.fixture(scope="module")
def world(make_world: Callable[[Path], World], tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with one store and one index."""
    return make_world(tmp_path_factory.mktemp("brought"))


@pytest.fixture(scope="module", autouse=True)
def mined(world: World) -> Result:
    result = world.run("mine")
    assert result.status == 0, result.err
    return result


@pytest.fixture(scope="module")
def index(world: World) -> ShardIndex:
    return ShardIndex.build(sorted(world.shards.glob("*.tar")))


def arrays_of(folder: Path) -> list[bytes]:
    index = HardPairIndex.load(folder)
    return [np.asarray(getattr(index, name)).tobytes() for name in ARRAYS]


def own_store(world: World) -> EmbeddingStore:
    [meta] = (world.folder / "artifacts/folder/embeddings").glob("clip-*/meta.json")
    return EmbeddingStore(meta.parent)


def brought(world: World, folder: Path, index: ShardIndex, rows: np.ndarray, parts: int = 2) -> Path:
    """A folder of clip-retrieval with the vectors of our own store, in the order `rows`."""
    store = own_store(world)
    return write_folder(
        folder,
        store.image[rows],
        store.text[rows],
        [index.key(int(row)) for row in rows],
        [f"picture number {row}" for row in rows],
        [f"u{row}" for row in rows],
        parts,
    )


def test_clip_retrieval_gives_the_index_of_our_own_store(world: World, index: ShardIndex, tmp_path: Path) -> None:
    [own] = (world.folder / "artifacts/folder/hard_pairs").glob("joint-*/meta.json")
    rows = np.random.default_rng(0).permutation(TRAIN)
    folder = brought(world, tmp_path / "made", index, rows)
    overrides = ["encoders=precomputed", f"encoders.image={folder}", f"paths.artifacts={tmp_path}/a"]
    result = world.run("mine", *overrides, f"paths.index={tmp_path}/theirs")
    assert result.status == 0, result.err
    assert "embeddings: 32 rows were matched\n" in result.out
    assert arrays_of(tmp_path / "theirs") == arrays_of(own.parent)


def test_rows_without_an_embedding_are_no_targets_and_no_partners(
    world: World, index: ShardIndex, tmp_path: Path
) -> None:
    rows = np.delete(np.arange(TRAIN), [3, 20])
    overrides = ["encoders=precomputed", f"encoders.image={brought(world, tmp_path / 'made', index, rows)}"]
    result = world.run("mine", *overrides, f"paths.index={tmp_path}/pairs", f"paths.artifacts={tmp_path}/a")
    assert result.status == 0, result.err
    assert "30 rows were matched; 2 have no embedding and are left out" in result.out
    pairs = HardPairIndex.load(tmp_path / "pairs")
    assert (pairs.counts()[[3, 20]] == 0).all() and not np.isin(pairs.rows, [3, 20]).any()


def test_who_is_waited_for_is_said_on_the_sessions_console(world: World, index: ShardIndex, tmp_path: Path) -> None:
    """A console with markup would read a [name] in a path as a style."""
    folder, console = brought(world, tmp_path / "made", index, np.arange(TRAIN)), Console(quiet=True)
    with mock.patch("helip.embedding.precomputed.artefact_lock", wraps=artefact_lock) as lock:
        Precomputed(folder, folder, tmp_path / "store").load(index, np.arange(len(index)) < TRAIN, console)
    assert lock.call_args.args[1] is console


def test_bare_folders_and_npz_files(world: World, index: ShardIndex, tmp_path: Path) -> None:
    folder = brought(world, tmp_path / "made", index, np.arange(TRAIN), parts=3)
    store, both = own_store(world), tmp_path / "all.npz"
    np.savez(both, image=store.image[:TRAIN], text=store.text[:TRAIN])
    for image, text in ((folder, folder), (both, both), (Path(f"{both}:image"), both), (both, folder)):
        found = Precomputed(image, text, tmp_path / "store").load()
        assert (found[0] == store.image[:TRAIN]).all() and (found[1] == store.text[:TRAIN]).all()
    bare = ["dataset=none", "encoders=precomputed", "helip.topk=5", f"encoders.image={folder}", "trainer=cpu"]
    result = world.run("mine", *bare, f"paths.artifacts={tmp_path}/a", data=False)
    assert result.status == 0, result.err
    assert len(list(tmp_path.glob("a/none/embeddings/*/present.npy"))) == 1


def test_contents_name_the_embeddings(world: World, index: ShardIndex, tmp_path: Path) -> None:
    """Other contents have another identity, equal contents the same."""
    folder = brought(world, tmp_path / "made", index, np.arange(TRAIN))
    before = Precomputed(folder, folder).identity
    assert before == Precomputed(folder, folder).identity
    brought(world, folder, index, np.arange(TRAIN)[::-1])
    assert Precomputed(folder, folder).identity != before


def test_what_cannot_be_matched_is_refused(world: World, index: ShardIndex, tmp_path: Path) -> None:
    folder = brought(world, tmp_path / "made", index, np.arange(TRAIN))
    other = brought(world, tmp_path / "other", index, np.arange(TRAIN)[::-1])
    bare = ["dataset=none", "encoders=precomputed", "helip.topk=5", "trainer=cpu", f"paths.artifacts={tmp_path}/a"]

    def refused(*overrides: str, data: bool = True) -> str:
        result = world.run("mine", f"paths.artifacts={tmp_path}/a", *overrides, data=data)
        assert result.status == 1 and len(result.errors) == 1, result.out + result.err
        return result.errors[0]

    two = refused(*bare, f"encoders.image={folder}", f"encoders.text={other}", data=False)
    assert "are two folders, and dataset=none has no rows to match them by" in two
    np.save(tmp_path / "image.npy", np.ones((TRAIN, 4)))
    assert "encoders.text must be given" in refused(*bare, f"encoders.image={tmp_path}/image.npy", data=False)
    few = refused("encoders=precomputed", f"encoders.image={folder}", "dataset.parts.train=':'")
    assert "8 of 40 rows have no embedding in" in few and "whose key no entry has" in few
