"""Names of shards that a user may give, and messages about files that are no tars."""

import gzip
import tarfile
from pathlib import Path

import pytest

from helip.artifacts.places import resolve_shards
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError
from tests.samples import picture, sample, write_shards, write_tar


def test_folders_patterns_and_lists(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [1, 1, 1])
    first, second, third = map(str, shards)
    for named, found in (
        (str(tmp_path), shards),
        (tmp_path, shards),
        (f"{tmp_path}/*.tar", shards),
        (f"{tmp_path}/0000[12].tar", shards[1:]),
        (f"{tmp_path}/{{00000..00001}}.tar", shards[:2]),
        (f"{third}::{first}", [shards[2], shards[0]]),
        (f"{second}::{tmp_path}/{{00002..00002}}.tar", shards[1:]),
        ([second, shards[0]], [shards[1], shards[0]]),
    ):
        assert resolve_shards(named) == found
        assert ShardIndex.build(named).shards == found


def test_a_name_that_looks_like_a_pattern_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a[1]{0..3}.tar", [("k", sample(0))])
    assert resolve_shards(str(path)) == [path] and len(ShardIndex.build(path)) == 1


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("/nowhere/*.tar", r"no shards at /nowhere/\*\.tar: docs"),
        ("pipe:cat /a.tar", "is a command"),
        ("foo://bucket/0.tar", "no storage reads foo://"),
    ],
)
def test_what_is_nowhere(named: str, sentence: str) -> None:
    with pytest.raises(HelipError, match=sentence):
        resolve_shards(named)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "A.TAR.GZ", "a.parquet", "a.csv", "a.tsv", "a.arrow", "a.json"])
def test_other_files_are_named_with_the_command(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    for named in (str(tmp_path / name), f"{tmp_path}/{name[:-2]}*"):
        with pytest.raises(HelipError, match=rf"{name} is an? .*`helip convert to-shards {tmp_path}/{name} OUT` makes"):
            resolve_shards(named)
    with pytest.raises(HelipError, match=rf"it holds 1 \.\S+ files?; `helip convert to-shards {tmp_path} OUT`"):
        resolve_shards(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "head", "sentence"),
    [
        ("a.zip", b"x", r"a\.zip is a zip file.*unpack it, .*`helip convert to-shards FOLDER OUT`"),
        ("a.tar.zst", b"x", r"a\.tar\.zst is a zstd-compressed file.*unpack it \(zstd -d\)"),
        ("a.jsonl", b"x", r"a\.jsonl is a JSON list.*docs/your_data\.md lists"),
        ("a.tar", b"PK\3\4" + bytes(600), r"a\.tar is a zip file, no plain tar: unpack it"),
        ("a.tar", b"\x89HDF" + bytes(600), r"a\.tar is an HDF5 file, no plain tar: docs/your_data\.md"),
        (
            "a.tar",
            b"version https://git-lfs" + bytes(600),
            r"a\.tar is a git-lfs pointer.*: fetch it with `git lfs pull`",
        ),
    ],
)
def test_what_no_command_reads_says_what_to_do_first(tmp_path: Path, name: str, head: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(head)
    with pytest.raises(HelipError, match=sentence):
        ShardIndex.build(str(tmp_path / name))


def test_a_folder_of_what_no_command_reads(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(HelipError, match=r"it holds 2 \.zip files; unpack it, then"):
        resolve_shards(str(tmp_path))


def test_a_compressed_file_that_is_called_a_tar(tmp_path: Path) -> None:
    good = write_shards(tmp_path, [1])[0]
    for head, kind in (
        (gzip.compress(good.read_bytes()), "gzip"),
        (b"PAR1" + bytes(600), "parquet"),
    ):
        (tmp_path / "bad.tar").write_bytes(head)
        with pytest.raises(HelipError, match=rf"bad\.tar is a {kind}.* file, no plain tar: `helip convert to-shards"):
            ShardIndex.build(tmp_path / "bad.tar")


def test_a_row_can_be_looked_at(tmp_path: Path) -> None:
    entries = [("0", sample(0)), ("1", sample(1, txt=None)), ("2", sample(2, txt=None, json=None)), ("3", sample(3))]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", entries)])
    assert index[0].image == picture(0) and index[0].caption == "picture number 0" and index[0].metadata["url"] == "u0"
    assert index[1].caption == "picture number 1" and index[2].caption == "" and index[-1].row == 3
    assert index[0].picture.size == (48, 48) and index[0].key == "0"
    assert len(repr(index[0]).splitlines()) == 1 and "picture number 0" in repr(index[0])
    assert repr(index) == f"ShardIndex(4 rows, 1 of them without image or caption in 1 shards from {tmp_path})"
    with pytest.raises(IndexError):
        index[4]
    assert [sample.row for sample in index] == [0, 1, 2, 3]


def test_tarfile_and_storage_agree(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, [2])
    with tarfile.open(path) as tar:
        member = tar.extractfile("000000001.jpg")
        assert member is not None and ShardIndex.build(path)[1].image == member.read()
