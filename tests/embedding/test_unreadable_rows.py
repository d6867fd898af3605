"""Rows that cannot be read: counted, refused if they are all, and embedded when they are repaired."""

import os
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from rich.console import Console

from helip.artifacts.embeddings import UNREADABLE
from helip.artifacts.shards import ShardIndex
from helip.artifacts.sums import check_sums
from helip.embedding.ensure import repaired_rows
from helip.errors import HelipError
from tests.embedding.passes import Recorded, ensure, request
from tests.samples import sample, write_tar


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
