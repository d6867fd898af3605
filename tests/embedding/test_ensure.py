"""Embeddings are computed once: a killed pass is resumed, and older stores are taken over."""

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

from helip.artifacts.embeddings import GOOD, PENDING, EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.embedding.ensure import own_rows, repaired_rows
from helip.errors import HelipError
from helip.ranks import TrainerSpec, predict_trainer
from tests.embedding.fakes import Colours, fake_encoders
from tests.embedding.passes import Recorded, ensure, request
from tests.samples import picture, write_tar


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
