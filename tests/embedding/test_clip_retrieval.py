"""Entries of clip-retrieval are matched to the rows that they were made from, or refused."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helip.artifacts.shards import ShardIndex
from helip.embedding.clip_retrieval import EmbeddingFolder, match_rows
from helip.errors import HelipError
from helip.formats.from_released import from_released
from tests.embedding.clip_retrieval import write_folder
from tests.samples import sample, write_shards, write_tar

HOSTILE = [
    "<script>alert(1)</script> & 'quotes' \"",
    "tab\there, newline\nthere, bell\x07 and \x1c",
    "комма, 逗号, 🧯",
    "\ufeffmark",
    "x" * 1_000_000,
    "=1+1",
]


def vectors(count: int, dtype: type = np.float16) -> np.ndarray:
    """(count, 4) with distinct rows."""
    return np.random.default_rng(3).normal(size=(count, 4)).astype(dtype)


def shards_of(folder: Path, captions: Sequence[str], urls: Sequence[str | None], keys: Sequence[str]) -> ShardIndex:
    samples = [
        (key, sample(n, txt=caption.encode(), json=json.dumps({"url": url}).encode()))
        for n, (key, caption, url) in enumerate(zip(keys, captions, urls, strict=True))
    ]
    half = len(samples) // 2
    paths = [write_tar(folder / "00000.tar", samples[:half]), write_tar(folder / "00001.tar", samples[half:])]
    return ShardIndex.build(paths)


@pytest.mark.parametrize("parts", [1, 3, 11])
@pytest.mark.parametrize("metadata", [True, False])
def test_shuffled_entries_are_put_into_the_order_of_rows(tmp_path: Path, parts: int, metadata: bool) -> None:
    count = 40
    index = ShardIndex.build(write_shards(tmp_path / "tars", [25, 15]))
    order = np.random.default_rng(0).permutation(count)
    values = vectors(count)
    write_folder(
        tmp_path / "made",
        values[order],
        -values[order],
        [index.key(int(row)) for row in order],
        [f"picture number {row}" for row in order],
        [f"u{row}" for row in order] if metadata else None,
        parts,
    )
    for side, sign in (("image", 1), ("text", -1)):
        folder = EmbeddingFolder(tmp_path / "made", side)
        assert list(folder.numbers) == list(range(parts))
        entries = match_rows(folder, index, index.valid)
        assert (order[entries] == np.arange(count)).all()
        folder.write(tmp_path / "out.npy", entries)
        written = np.load(tmp_path / "out.npy")
        assert written.dtype == np.float16 and (written == sign * values).all()


def test_hostile_captions_and_urls(tmp_path: Path) -> None:
    """Equal keys in both shards, duplicate and missing urls, captions with special characters."""
    count = len(HOSTILE)
    captions, keys = [*HOSTILE, *HOSTILE[::-1]], [f"dir/{n % count:09d}" for n in range(2 * count)]
    urls: list[str | None] = ['http://x/?a=1,2&b="3"\n', "u", "u", "", "http://ü", "u"] * 2
    index = shards_of(tmp_path / "tars", captions, urls, keys)
    order = np.random.default_rng(1).permutation(2 * count)
    named = [keys[row] for row in order], [captions[row] for row in order], [urls[row] for row in order]
    values = vectors(2 * count)
    write_folder(tmp_path / "made", values[order], values[order], *named)
    assert (order[match_rows(EmbeddingFolder(tmp_path / "made", "image"), index, index.valid)] == np.arange(12)).all()


def test_missing_samples_are_left_out_and_too_many_are_refused(tmp_path: Path) -> None:
    index = ShardIndex.build(write_shards(tmp_path / "tars", [20, 20]))
    kept = np.array([row for row in range(40) if row % 12])

    def folder(rows: np.ndarray, name: str) -> EmbeddingFolder:
        arguments = [f"{index.key(int(row))}" for row in rows], [f"picture number {row}" for row in rows]
        return EmbeddingFolder(
            write_folder(tmp_path / name, vectors(len(rows)), vectors(len(rows)), *arguments), "text"
        )

    entries = match_rows(folder(kept, "most"), index, index.valid)
    assert (np.flatnonzero(entries < 0) == [0, 12, 24, 36]).all()
    some = folder(kept[:20], "some")
    with pytest.raises(HelipError, match=r"20 of 40 rows have no embedding in .*some, the first is 00000\.tar, key"):
        match_rows(some, index, index.valid)
    first = index.valid & (np.arange(40) < 22)
    assert (match_rows(some, index, first)[1:12] == np.arange(11)).all()


def test_equal_keys_of_another_dataset_are_refused(tmp_path: Path) -> None:
    """img2dataset gives every dataset the same keys: 000000000, 000000001, ..."""
    index = ShardIndex.build(write_shards(tmp_path / "tars", [10]))
    keys = [index.key(row) for row in range(10)]
    captions = [f"picture number {row}" for row in range(10)]
    for name, others, urls, sentence in (
        ("urls", captions, [f"other{n}" for n in range(10)], "whose url is 'u0' here and 'other0' there"),
        ("captions", captions[::-1], None, "whose caption is 'picture number 0' here and 'picture number 9' there"),
        ("none", captions, [None] * 10, "whose url is 'u0' here and '' there"),
    ):
        folder = write_folder(tmp_path / name, vectors(10), vectors(10), keys, others, urls)
        with pytest.raises(HelipError, match=sentence):
            match_rows(EmbeddingFolder(folder, "image"), index, index.valid)
    folder = write_folder(tmp_path / "keys", vectors(10), vectors(10), [f"/pictures/{n}.JPG" for n in keys], captions)
    assert (match_rows(EmbeddingFolder(folder, "image"), index, index.valid) == np.arange(10)).all()
    folder = write_folder(tmp_path / "odd", vectors(10), vectors(10), [f"{n}x" for n in keys], captions)
    with pytest.raises(HelipError, match="whose key no entry has"):
        match_rows(EmbeddingFolder(folder, "image"), index, index.valid)


def test_what_is_described_alike_is_left_out(tmp_path: Path) -> None:
    """Rows 3 and 23 have the same key and caption, and so have two entries; row 5 has a key alone."""
    samples = [sample(n) for n in range(20)] + [sample(n, txt=f"other {n}".encode()) for n in range(20)]
    samples[23] = sample(3)
    samples[5] = sample(5, txt=None)
    named = [(f"{n % 20:04d}", one) for n, one in enumerate(samples)]
    shards = [write_tar(tmp_path / "0.tar", named[:20]), write_tar(tmp_path / "1.tar", named[20:])]
    both, second = ShardIndex.build(shards), ShardIndex.build(shards[1:])
    captions = [one.get("txt", b"").decode() for one in samples]

    def entries(rows: list[int], name: str) -> EmbeddingFolder:
        arguments = vectors(len(rows)), vectors(len(rows)), [named[row][0] for row in rows], [captions[r] for r in rows]
        return EmbeddingFolder(write_folder(tmp_path / name, *arguments), "image")

    found = match_rows(entries(list(range(40)), "all"), both, both.valid)
    assert np.flatnonzero(found < 0).tolist() == [3, 5, 23]
    assert (found[found >= 0] == np.flatnonzero(found >= 0)).all()
    twice = entries([*range(20, 40), 24, 3], "twice")
    assert np.flatnonzero(match_rows(twice, second, second.valid) < 0).tolist() == [3, 4]
    with pytest.raises(HelipError, match=r"2 of 15 rows .*0003 .*is not the only row or entry with its key, caption"):
        match_rows(twice, second, second.valid & (np.arange(20) < 15))


def test_keys_alone_are_refused(tmp_path: Path) -> None:
    """Embeddings of images alone: clip-retrieval writes no caption then."""
    index = ShardIndex.build(write_shards(tmp_path / "tars", [10]))
    folder = write_folder(tmp_path / "made", vectors(10), vectors(10), [index.key(row) for row in range(10)], [""] * 10)
    path = folder / "metadata/metadata_0.parquet"
    with pytest.raises(HelipError, match="10 of 10 rows have no embedding"):
        match_rows(EmbeddingFolder(folder, "image"), index, index.valid)
    pq.write_table(pq.read_table(path, columns=["image_path"]), path)
    with pytest.raises(HelipError, match=r"neither urls nor captions.*--enable_metadata True"):
        match_rows(EmbeddingFolder(folder, "image"), index, index.valid)


def test_a_full_disk_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map whose bytes are not reserved ends the process by SIGBUS."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = write_folder(tmp_path / "made", vectors(4), vectors(4), list("abcd"), list("abcd"))
    index = ShardIndex.build(write_shards(tmp_path / "tars", [4]))
    (tmp_path / "hard.csv").write_text("0,1\n1,0\n")
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(HelipError, match=r"no room for the .* bytes of .*out\.npy \(No space left on device\)"):
        EmbeddingFolder(folder, "image").write(tmp_path / "out.npy", np.arange(4))
    with pytest.raises(HelipError, match=r"no room for the .* bytes of .*rows\.npy"):
        from_released(tmp_path / "hard.csv", index, tmp_path / "index", order="row")


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    index = ShardIndex.build(write_shards(tmp_path / "tars", [10]))
    keys, captions = [index.key(row) for row in range(10)], [f"picture number {row}" for row in range(10)]

    def refused(name: str, sentence: str) -> None:
        with pytest.raises(HelipError, match=sentence):
            match_rows(EmbeddingFolder(tmp_path / name, "image"), index, index.valid)

    refused("nothing", r"is no folder of clip-retrieval: it has no img_emb/img_emb_NUMBER\.npy")
    write_folder(tmp_path / "lost", vectors(10), vectors(10), keys, captions, parts=2)
    (tmp_path / "lost/metadata/metadata_1.parquet").unlink()
    refused("lost", "part 1 has no metadata or no embeddings")
    write_folder(tmp_path / "cut", vectors(10), vectors(10), keys, captions)
    np.save(tmp_path / "cut/img_emb/img_emb_0.npy", vectors(9))
    refused("cut", r"metadata_0.parquet describes 10 entries, but img_emb_0.npy has 9")
    write_folder(tmp_path / "wide", vectors(10), vectors(10), keys, captions, parts=2)
    np.save(tmp_path / "wide/img_emb/img_emb_1.npy", np.ones((5, 3), np.float16))
    refused("wide", "differ in width or type")
    write_folder(tmp_path / "broken", vectors(10), vectors(10), keys, captions)
    (tmp_path / "broken/metadata/metadata_0.parquet").write_bytes(b"PAR1 no")
    refused("broken", "cannot be read as a parquet file")
    write_folder(tmp_path / "lists", vectors(10), vectors(10), keys, captions)
    path = tmp_path / "lists/metadata/metadata_0.parquet"
    table = pq.read_table(path)
    lists = pa.array([[caption] for caption in captions])
    pq.write_table(table.set_column(table.column_names.index("caption"), "caption", lists), path)
    refused("lists", r"metadata_0.parquet has keys, urls or captions that are no texts, but list<")
    write_folder(tmp_path / "two", vectors(10), vectors(10), keys, captions)
    for side, suffix in (("img_emb", "npy"), ("text_emb", "npy"), ("metadata", "parquet")):
        file = tmp_path / f"two/{side}/{side}_0.{suffix}"
        (file.parent / f"{side}_00.{suffix}").write_bytes(file.read_bytes())
    refused("two", r"metadata has both metadata_0\.parquet and metadata_00\.parquet.*keep the files of one run")
