"""Random access by offset: bytes of the tar, all kinds of captions, few open files, and changed shards."""

import json
import os
import pickle
import resource
import tarfile
from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, Unreadable, content_digest
from helip.errors import HelipError
from tests.samples import open_files, picture, sample, write_shards, write_tar


def reader_of(folder: Path, samples: list[dict[str, bytes]], caption: str = "txt") -> SampleReader:
    entries = [(f"{number:04d}", members) for number, members in enumerate(samples)]
    return SampleReader(ShardIndex.build([write_tar(folder / "0.tar", entries)]), caption)


def test_it_reads_what_tarfile_reads(tmp_path: Path) -> None:
    index = ShardIndex.build(write_shards(tmp_path, [3, 0, 4]))
    reader = SampleReader(index)
    for row in np.random.default_rng(0).permutation(len(index)).tolist():
        with tarfile.open(index.shards[int(index.shard_of(row))]) as tar:
            image, text = (tar.extractfile(f"{index.key(row)}.{ending}") for ending in ("jpg", "txt"))
            assert image is not None and text is not None
            raw = reader.read(row)
            assert raw.image == image.read() and raw.captions == (text.read().decode(),)
            assert reader.metadata(row)["url"] == f"u{row}"


def test_captions_from_the_text_file_or_a_json_field(tmp_path: Path) -> None:
    assert reader_of(tmp_path, [sample(4)]).captions(0) == ("picture number 4",)
    assert reader_of(tmp_path, [sample(4)], "caption").captions(0) == ("picture number 4",)
    assert reader_of(tmp_path, [sample(4)], "captions").captions(0) == ("picture number 4", "no. 4")


def test_a_byte_order_mark_is_no_part_of_a_caption(tmp_path: Path) -> None:
    marked = sample(4, txt=b"\xef\xbb\xbfa dog\n", json=b'\xef\xbb\xbf{"caption": "\\ufeffa cat"}')
    assert reader_of(tmp_path, [marked]).captions(0) == ("a dog",)
    assert reader_of(tmp_path, [marked], "caption").captions(0) == ("a cat",)
    with pytest.raises(Unreadable, match="missing or empty"):
        reader_of(tmp_path, [sample(4, txt=b"\xef\xbb\xbf\n")]).captions(0)


def test_a_member_too_large_for_one_read_is_unreadable(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, [sample(0)])
    reader.index.size = reader.index.size.astype(np.int64)
    reader.index.size[0, 0] = 2**31 + 5
    with pytest.raises(Unreadable, match="a member of 2,147,483,653 bytes"):
        reader.read(0)


@pytest.mark.parametrize(
    ("caption", "changes", "reason"),
    [
        ("txt", {"txt": "Größe".encode("latin-1")}, "not UTF-8"),
        ("txt", {"txt": b" \n\t "}, "missing or empty"),
        ("txt", {"txt": b""}, "missing or empty"),
        ("txt", {"txt": None}, "missing or empty"),
        ("caption", {"json": None}, "missing or empty"),
        ("caption", {"json": b"{"}, "cannot be parsed"),
        ("caption", {"json": b"[" * 5_000}, "cannot be parsed"),
        ("caption", {"json": b'["a list"]'}, "missing or empty"),
        ("caption", {"json": b'{"caption": 7}'}, "missing or empty"),
        ("caption", {"json": b'{"caption": []}'}, "missing or empty"),
        ("caption", {"json": b'{"caption": "\\ud800"}'}, "not UTF-8"),
        ("caption", {"json": b'\xff{"caption": "x"}'}, "cannot be parsed"),
        ("nothing", {}, "missing or empty"),
    ],
)
def test_a_caption_that_cannot_be_used(tmp_path: Path, caption: str, changes: dict, reason: str) -> None:
    reader = reader_of(tmp_path, [sample(0), sample(1, **changes)], caption)
    with pytest.raises(Unreadable, match=reason):
        reader.read(1)


def test_long_padded_and_mixed_captions(tmp_path: Path) -> None:
    long = "word " * 2000  # 10,000 characters
    mixed = json.dumps({"captions": ["", "  one ", None, 3, "two"]}).encode()
    reader = reader_of(tmp_path, [sample(0, txt=long.encode()), sample(1, json=mixed)])
    assert reader.captions(0) == (long.strip(),)
    assert SampleReader(reader.index, "captions").captions(1) == ("one", "two")


def test_a_sample_without_image(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no image"):
        reader_of(tmp_path, [sample(0), sample(1, jpg=None)]).read(1)


def test_few_files_stay_open_with_332_shards(tmp_path: Path) -> None:
    """The usual limit is 256 to 1,024 open files per process; CC3M has 332 shards."""
    index = ShardIndex.build([write_tar(tmp_path / f"{n:05d}.tar", [("k", sample(n % 7))]) for n in range(332)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        readers = [SampleReader(index) for _ in range(2)]
        for row in [*range(332), *range(331, -1, -1)]:
            assert readers[row % 2].read(row).image == picture(row % 7)
        assert open_files() <= in_use + 128
        del readers
        assert open_files() <= in_use + 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_shard_that_vanished_or_changed(tmp_path: Path) -> None:
    first, second = write_shards(tmp_path, [2, 2])
    reader = SampleReader(ShardIndex.build([first, second]))
    first.unlink()
    with pytest.raises(HelipError, match=r"00000\.tar can no longer be opened"):
        reader.read(0)
    second.write_bytes(second.read_bytes() + bytes(512))
    with pytest.raises(HelipError, match=r"00001\.tar changed since it was indexed"):
        reader.read(2)


def test_a_shard_cut_off_while_it_is_open(tmp_path: Path) -> None:
    (shard,) = write_shards(tmp_path, [3])
    reader = SampleReader(ShardIndex.build([shard]))
    reader.read(0)
    os.truncate(shard, 3000)
    with pytest.raises(Unreadable, match="ends before its bytes"):
        reader.read(2)


def test_open_files_stay_with_their_process(tmp_path: Path) -> None:
    reader = SampleReader(ShardIndex.build(write_shards(tmp_path, [2])))
    reader.read(0)
    before = open_files()
    copy = pickle.loads(pickle.dumps(reader))  # as a spawned worker gets it
    assert open_files() == before
    assert copy.read(1) == reader.read(1)
    assert open_files() == before + 1


def test_content_digests_tell_copies_from_others() -> None:
    assert content_digest(b"abc") == content_digest(b"abc") == content_digest("abc")
    assert len({int(content_digest(picture(n))) for n in range(50)}) == 50
