"""The store of embeddings: written and resumed row by row; missing rows are reported."""

from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.atomic import atomic_file, atomic_folder, clear_stale, digest
from helip.artifacts.embeddings import GOOD, PENDING, UNREADABLE, EmbeddingStore
from helip.errors import HelipError


def rows_of(store: EmbeddingStore, *rows: int) -> None:
    """Write row numbers as embeddings."""
    values = np.array(rows, np.float32)[:, None]
    store.write(np.array(rows), np.repeat(values, 4, 1), np.repeat(-values, 3, 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    EmbeddingStore.create(tmp_path / "store", 6, 4, 3, {"identity": "test"})
    return tmp_path / "store"


def test_a_new_store_is_pending_and_incomplete(folder: Path) -> None:
    store = EmbeddingStore(folder)
    assert store.image.shape == (6, 4) and store.text.shape == (6, 3) and store.image.dtype == np.float32
    assert not store.complete and not store.valid.any() and store.meta["identity"] == "test"
    assert store.pending(np.array([1, 0, 1, 1, 0, 0], bool)).tolist() == [0, 2, 3]


def test_opening_it_again_goes_on_where_it_stopped(folder: Path) -> None:
    first = EmbeddingStore.create(folder, 6, 4, 3, {"identity": "another"})
    rows_of(first, 4, 1)
    first.mark_unreadable(np.array([2]))
    second = EmbeddingStore.create(folder, 6, 4, 3, {})
    assert second.meta["identity"] == "test"  # an existing store is kept
    assert second.pending(np.ones(6, bool)).tolist() == [0, 3, 5]
    assert second.valid.tolist() == [False, True, False, False, True, False]
    rows_of(second, 0, 3, 5)
    second.finish()
    done = EmbeddingStore(folder)
    assert done.complete and done.meta["unreadable"] == 1
    assert done.image[:, 0].tolist() == [0, 1, 0, 3, 4, 5] and done.text[3].tolist() == [-3, -3, -3]
    assert np.asarray(done.state).tolist() == [GOOD, GOOD, UNREADABLE, GOOD, GOOD, GOOD]


def test_several_writers_share_it(folder: Path) -> None:
    one, two = EmbeddingStore(folder, "r+"), EmbeddingStore(folder, "r+")
    rows_of(one, 0, 2)
    rows_of(two, 1, 5)
    assert EmbeddingStore(folder).valid.tolist() == [True, True, True, False, False, True]


def test_readers_cannot_write(folder: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        rows_of(EmbeddingStore(folder), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_refused(folder: Path, bad: float) -> None:
    store = EmbeddingStore(folder, "r+")
    image = np.ones((2, 4), np.float32)
    image[1, 2] = bad
    with pytest.raises(HelipError, match=r"row 5 is not finite: .*trainer\.precision=32-true"):
        store.write(np.array([0, 5]), image, np.ones((2, 3), np.float32))
    assert (np.asarray(store.state) == PENDING).all()


def test_a_batch_without_a_readable_row(folder: Path) -> None:
    store = EmbeddingStore(folder, "r+")
    store.mark_unreadable(np.array([], np.int64))
    assert len(store.pending(np.ones(6, bool))) == 6


def damage_length(folder: Path) -> None:
    np.save(folder / "state.npy", np.zeros(5, np.uint8))


def damage_file(folder: Path) -> None:
    (folder / "image.npy").write_bytes(b"\x93NUMPY")


def damage_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("{")


def damage_version(folder: Path) -> None:
    (folder / "meta.json").write_text('{"version": 99, "complete": true}')


def remove(folder: Path) -> None:
    (folder / "text.npy").unlink()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (damage_length, "damaged"),
        (damage_file, "cannot be read"),
        (damage_meta, "cannot be read"),
        (damage_version, "format 99, not 1"),
        (remove, "cannot be read"),
    ],
)
def test_a_damaged_store_is_refused(folder: Path, damage, sentence: str) -> None:
    damage(folder)
    with pytest.raises(HelipError, match=sentence) as error:
        EmbeddingStore(folder)
    assert str(folder) in str(error.value) and "delete" in str(error.value)


def test_a_store_killed_while_it_was_created_is_made_anew(folder: Path) -> None:
    (folder / "meta.json").unlink()  # meta.json is written last
    assert EmbeddingStore.create(folder, 6, 4, 3, {"identity": "new"}).meta["identity"] == "new"


def test_atomic_writes_leave_the_old_version_when_they_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "file") as path:
        path.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder") as path:
        (path / "half").touch()
        raise RuntimeError
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "old"]
    with atomic_folder(tmp_path / "folder") as path:
        (path / "old").touch()
        (path / "new").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "new", "old"]


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.npy").write_text("older")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("mine")
    for name, sentence in (("thesis", "holds thesis.txt, .*name a new"), ("file", "is a file: name a new")):
        with pytest.raises(HelipError, match=sentence), atomic_folder(tmp_path / name) as temporary:
            (temporary / "a.npy").write_text("new")
    with atomic_folder(tmp_path / "own") as temporary:
        (temporary / "a.npy").write_text("new")
    assert (tmp_path / "own" / "a.npy").read_text() == "new"
    assert (tmp_path / "thesis" / "thesis.txt").exists() and (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "own", "thesis"]


def test_only_what_was_left_of_the_same_artefact_is_cleared(tmp_path: Path) -> None:
    for name in (".a.12.tmp", ".a.7.old", ".a.b.12.tmp", ".[a].9.tmp", "a.partial-0"):
        (tmp_path / name).mkdir()
    clear_stale(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".[a].9.tmp", ".a.b.12.tmp", "a.partial-0"]
    clear_stale(tmp_path / "[a]")
    assert not (tmp_path / ".[a].9.tmp").exists()


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    assert len(digest(None, 12)) == 12
