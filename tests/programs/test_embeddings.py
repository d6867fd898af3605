"""Embeddings are computed once: killed passes go on, older stores are taken over, bad datasets stop early."""

import io
import json
import multiprocessing
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from helip.artifacts.embeddings import GOOD, PENDING, UNREADABLE, EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.artifacts.sums import check_sums
from helip.embedding.encoders import Encoders
from helip.embedding.ensure import EmbeddingRequest, ensure_embeddings, own_rows, repaired_rows
from helip.errors import HelipError
from helip.ranks import TrainerSpec, predict_trainer
from tests.embedding.fakes import Colours, fake_encoders
from tests.samples import picture, sample, write_shards, write_tar

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def trainer() -> pl.Trainer:
    return predict_trainer(TrainerSpec("cpu", 1), progress=False)


class Recorded:
    """Creates fake encoders and remembers them, to count the rows that were computed."""

    def __init__(self) -> None:
        self.made: list[Encoders] = []

    def __call__(self) -> Encoders:
        self.made.append(fake_encoders())
        return self.made[-1]

    @property
    def rows(self) -> int:
        """Without the black image by which the width of each is measured."""
        return sum(encoders.image.rows - 1 for encoders in self.made)  # type: ignore[attr-defined]


def request(create, **changes) -> EmbeddingRequest:
    return replace(EmbeddingRequest("fake", {"encoders": "fake"}, create, batch_size=4, workers=0), **changes)


def ensure(asked: EmbeddingRequest, index: ShardIndex, parent: Path, trainer: pl.Trainer, wanted=None, console=QUIET):
    """(store, its folder): named as the pipeline names it."""
    folder = parent / f"fake-{asked.hash(index)}"
    wanted = index.valid if wanted is None else wanted
    return ensure_embeddings(asked, index, wanted, folder, trainer, console), folder


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> ShardIndex:
    return ShardIndex.build(write_shards(tmp_path_factory.mktemp("shards"), [10, 9, 11]))


def test_computed_once_then_found(index: ShardIndex, tmp_path: Path, trainer: pl.Trainer) -> None:
    create = Recorded()
    store, _ = ensure(request(create), index, tmp_path, trainer)
    assert store.complete and store.valid.all() and create.rows == 30
    again, _ = ensure(request(create), index, tmp_path, trainer)
    assert len(create.made) == 1 and (again.image == store.image).all()


def test_only_wanted_rows_are_computed_and_others_added_later(index: ShardIndex, tmp_path: Path, trainer) -> None:
    create = Recorded()
    part = np.arange(30) < 12
    store, _ = ensure(request(create), index, tmp_path, trainer, part)
    assert create.rows == 12 and (store.valid == part).all()
    store, _ = ensure(request(create), index, tmp_path, trainer)
    assert create.rows == 30 and store.valid.all()


class Deadly(Colours):
    """Ends its process like a machine does, after two batches; no handler runs."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.rows >= 9:  # the black image, and two batches of four
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image)


def embed_until_killed(index: ShardIndex, parent: Path) -> None:
    torch.set_num_threads(1)
    deadly = request(lambda: replace(fake_encoders(), image=Deadly()))
    ensure(deadly, index, parent, predict_trainer(TrainerSpec("cpu", 1), progress=False))


def test_a_pass_that_is_killed_goes_on_where_it_was(index: ShardIndex, tmp_path: Path, trainer: pl.Trainer) -> None:
    # spawned: a fork of a process with threads may wait for a lock that nobody holds
    child = multiprocessing.get_context("spawn").Process(target=embed_until_killed, args=(index, tmp_path), daemon=True)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    create = Recorded()
    partial = EmbeddingStore(next(tmp_path.glob("fake-*/")))
    assert not partial.complete and (np.asarray(partial.state) == GOOD).sum() == 8
    before = np.array(partial.image[:8])
    store, _ = ensure(request(create), index, tmp_path, trainer)  # the dead job's lock does not hold it up
    assert create.rows == 22 and store.complete and store.valid.all()
    assert (store.image[:8] == before).all()
    unbroken, _ = ensure(request(Recorded()), index, tmp_path / "unbroken", trainer)
    assert (store.image == unbroken.image).all() and (store.text == unbroken.text).all()


def test_added_shards_take_over_what_an_older_store_has(index: ShardIndex, tmp_path: Path, trainer) -> None:
    older = ShardIndex.build(index.shards[:2])
    ensure(request(Recorded()), older, tmp_path, trainer)
    create = Recorded()
    store, folder = ensure(request(create), index, tmp_path, trainer)
    assert create.rows == 11 and store.valid.all()  # those of the third shard
    shutil.rmtree(folder)
    turned = ShardIndex.build(index.shards[::-1])
    store, _ = ensure(request(create), turned, tmp_path, trainer)
    assert create.rows == 22 and store.valid.all()  # the same shards in another order: the third alone again
    fresh, _ = ensure(request(Recorded()), turned, tmp_path / "fresh", trainer)
    assert (store.image == fresh.image).all() and (store.text == fresh.text).all()


def test_other_encoders_take_over_nothing(index: ShardIndex, tmp_path: Path, trainer: pl.Trainer) -> None:
    ensure(request(Recorded()), index, tmp_path, trainer)
    create = Recorded()
    ensure(request(create, identity={"encoders": "others"}), index, tmp_path, trainer)
    assert create.rows == 30


def same_sizes(path: Path, first: int) -> Path:
    """A shard whose header does not depend on what it shows: pictures without compression, captions of one length."""
    samples = [(f"k{n}", {"bmp": picture(first + n, 24, "BMP"), "txt": b"%05d" % (first + n)}) for n in range(6)]
    return write_tar(path, samples)


@pytest.mark.parametrize("way", ["found", "taken over"])
def test_a_shard_that_was_replaced_by_one_of_the_same_sizes(tmp_path: Path, trainer: pl.Trainer, way: str) -> None:
    """The same fingerprint, even the same times: the digests of a few of its rows tell, and all of it is embedded."""
    shards = [same_sizes(tmp_path / f"data/{n}.tar", 10 * n) for n in range(3)]
    index = ShardIndex.build(shards)
    older, _ = ensure(request(Recorded()), index if way == "found" else ShardIndex.build(shards[:2]), tmp_path, trainer)
    older, state = older.content_digest(np.ones(len(older.state), bool)), shards[1].stat()
    same_sizes(shards[1], 50)
    os.utime(shards[1], ns=(state.st_atime_ns, state.st_mtime_ns))
    assert ShardIndex.build(shards).fingerprint == index.fingerprint
    create = Recorded()
    store, _ = ensure(request(create), index, tmp_path, trainer)
    assert create.rows == (6 if way == "found" else 12)
    assert store.content_digest(index.valid) != older
    fresh, _ = ensure(request(Recorded()), index, tmp_path / "fresh", trainer)
    assert (store.image == fresh.image).all() and (store.text == fresh.text).all()
    assert len(repaired_rows(request(create), index, index.valid, store.folder)) == 0


def test_a_store_that_is_not_what_was_written_is_not_taken_over(index: ShardIndex, tmp_path: Path, trainer) -> None:
    """Its damage would get sums of its own."""
    _, older = ensure(request(Recorded()), ShardIndex.build(index.shards[:2]), tmp_path, trainer)
    image = bytearray((older / "image.npy").read_bytes())
    image[-3] ^= 4
    (older / "image.npy").write_bytes(image)
    create, told = Recorded(), Console(record=True, width=2000, file=io.StringIO())
    ensure(request(create), index, tmp_path, trainer, console=told)
    assert create.rows == 30
    assert re.search(r"warning: embeddings in \S+ are not reused: \S+image.npy has the sum", told.export_text())


def test_adopting_never_undoes_what_is_done(index: ShardIndex, tmp_path: Path, trainer: pl.Trainer) -> None:
    """An unfinished older store beside an unfinished own one: the rows of either count."""
    older = ShardIndex.build(index.shards[:2])
    part = np.arange(19) < 5
    _, older_folder = ensure(request(Recorded()), older, tmp_path, trainer, part)
    _, folder = ensure(request(Recorded()), index, tmp_path, trainer, (np.arange(30) >= 4) & (np.arange(30) < 16))
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"complete": False}))
    assert (np.asarray(EmbeddingStore(older_folder).state) == PENDING).sum() == 14
    create = Recorded()
    store, _ = ensure(request(create), index, tmp_path, trainer)
    assert create.rows == 14 and store.valid.all()  # 16 to 29


def test_one_pending_row(index: ShardIndex, tmp_path: Path, trainer: pl.Trainer) -> None:
    create = Recorded()
    ensure(request(create), index, tmp_path, trainer, np.arange(30) < 29)
    store, _ = ensure(request(create), index, tmp_path, trainer)
    assert create.rows == 30 and store.valid.all()


def test_a_dataset_that_cannot_be_read_stops_before_it_is_read(tmp_path: Path, trainer: pl.Trainer) -> None:
    entries = [(str(n), sample(n, jpg=b"broken")) for n in range(300)]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", entries)])
    create = Recorded()
    with pytest.raises(HelipError, match=r"none of 100 samples .* the last is 0\.tar, key 299 .*check data\.caption"):
        ensure(request(create), index, tmp_path, trainer)
    assert create.rows == 0
    few = ShardIndex.build([write_tar(tmp_path / "1.tar", [*entries[:150], ("good", sample(0)), *entries[150:]])])
    with pytest.raises(HelipError, match="none of 100 samples"):
        ensure(request(create), few, tmp_path, trainer)


def test_unreadable_rows_are_told(tmp_path: Path, trainer: pl.Trainer, capsys) -> None:
    entries = [(str(n), sample(n, **({"jpg": b"x"} if n % 2 else {}))) for n in range(20)]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", entries)])
    store, _ = ensure(request(Recorded()), index, tmp_path, trainer, console=Console(soft_wrap=True, markup=False))
    assert store.valid.sum() == 10 and store.meta["unreadable"] == 10
    said = capsys.readouterr().out
    assert said.count("warning: left out 0.tar, key") == 5  # the first few stand for all
    assert "embeddings: 10 of 20 rows could not be read" in said
    with pytest.raises(HelipError, match="key 1 "):
        ensure(request(Recorded(), on_error="fail"), index, tmp_path / "strict", trainer)


def some_unreadable(folder: Path, bad: set[int]) -> ShardIndex:
    """One shard of 20 rows; zeros instead of an image have its length, so that the repaired shard has the same rows."""
    entries = [(str(n), sample(n)) for n in range(20)]
    for row in bad:
        entries[row][1]["jpg"] = bytes(len(entries[row][1]["jpg"]))
    return ShardIndex.build([write_tar(folder / "0.tar", entries)])


def test_a_row_that_was_repaired_is_embedded(tmp_path: Path, trainer: pl.Trainer) -> None:
    broken = some_unreadable(tmp_path, {3, 4, 11})
    store, folder = ensure(request(Recorded()), broken, tmp_path, trainer)
    assert np.flatnonzero(~store.valid).tolist() == [3, 4, 11]
    create = Recorded()
    ensure(request(create), broken, tmp_path, trainer)
    assert create.made == []  # still unreadable: nothing to compute, and the store stays as it is
    assert check_sums(folder) == []
    strict = request(create, on_error="fail")
    with pytest.raises(HelipError, match=r"0\.tar, key 3 \(row 3\): .*data\.on_error=skip"):
        ensure(strict, broken, tmp_path, trainer)
    repaired = some_unreadable(tmp_path, {4})
    assert repaired.fingerprint == broken.fingerprint
    store, _ = ensure(request(create), repaired, tmp_path, trainer)
    assert create.rows == 2 and np.flatnonzero(~store.valid).tolist() == [4] and store.meta["unreadable"] == 1
    assert check_sums(folder) == [] and store.complete
    store, _ = ensure(strict, some_unreadable(tmp_path, set()), tmp_path, trainer)
    assert store.valid.all()


def test_unreadable_rows_of_shards_that_nobody_touched_are_not_read_again(
    tmp_path: Path, trainer: pl.Trainer, monkeypatch
) -> None:
    """There may be thousands, and every run asks; a copy that kept the time of its origin counts as touched."""
    broken = some_unreadable(tmp_path, {3})
    _, folder = ensure(request(Recorded()), broken, tmp_path, trainer)
    wanted = np.ones(20, bool)
    with monkeypatch.context() as patched:
        patched.setattr("helip.embedding.ensure.read_row", None)
        assert len(repaired_rows(request(Recorded()), broken, wanted, folder)) == 0
    old = Path(str(broken.shards[0])).stat().st_mtime
    some_unreadable(tmp_path, set())
    os.utime(broken.shards[0], (old, old))
    assert repaired_rows(request(Recorded()), broken, wanted, folder).tolist() == [3]


def test_what_another_store_could_not_read_is_tried_again(tmp_path: Path, trainer: pl.Trainer) -> None:
    older = some_unreadable(tmp_path, {3, 4})
    ensure(request(Recorded()), older, tmp_path, trainer)
    some_unreadable(tmp_path, {4})
    both = ShardIndex.build([*older.shards, write_tar(tmp_path / "1.tar", [("x", sample(50))])])
    create = Recorded()
    store, _ = ensure(request(create), both, tmp_path, trainer)
    assert create.rows == 2 and np.flatnonzero(np.asarray(store.state) == UNREADABLE).tolist() == [4]


def test_a_row_that_nobody_wrote_is_noticed(
    index: ShardIndex, tmp_path: Path, trainer: pl.Trainer, monkeypatch
) -> None:
    """As on a file system whose clients write back whole pages: the state of a neighbour's row is lost."""
    write = EmbeddingStore.write

    def losing(self: EmbeddingStore, rows: np.ndarray, *arrays: np.ndarray) -> None:
        write(self, rows, *arrays)
        self.state[rows[rows == 7]] = PENDING

    with (
        monkeypatch.context() as patched,
        pytest.raises(HelipError, match=r"no rank wrote 1 rows .* row 7: repeat the command"),
    ):
        patched.setattr(EmbeddingStore, "write", losing)
        ensure(request(Recorded()), index, tmp_path, trainer)
    create = Recorded()
    store, _ = ensure(request(create), index, tmp_path, trainer)
    assert create.rows == 1 and store.complete and store.valid.all()


@pytest.mark.parametrize(("count", "world_size"), [(10, 1), (10, 3), (3, 3), (11, 4)])
def test_ranks_take_neighbouring_rows(count: int, world_size: int) -> None:
    rows = np.arange(count) * 2
    shares = [own_rows(rows, rank, world_size) for rank in range(world_size)]
    assert (np.concatenate(shares) == rows).all()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [own_rows(rows[:2], rank, 3).tolist() for rank in range(3)] == [[0], [2], [0]]  # nobody has an empty loader


@pytest.mark.parametrize("damage", ["{", "[]", '{"version": 1, "complete": true}'])
def test_a_damaged_neighbour_takes_no_part(index: ShardIndex, tmp_path: Path, trainer: pl.Trainer, damage: str) -> None:
    (tmp_path / "fake-00000000").mkdir()
    (tmp_path / "fake-00000000" / "meta.json").write_text(damage)
    store, _ = ensure(request(Recorded()), index, tmp_path, trainer)
    assert store.valid.all()
