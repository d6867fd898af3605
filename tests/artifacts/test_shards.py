"""Rows, keys and validity of a dataset of shards."""

import json
import os
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.members import IMAGE, JSON, TEXT, Members
from helip.artifacts.shard_scan import scan_shard
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError
from tests.artifacts.headers import END, header, padded
from tests.samples import sample, write_shards, write_tar


def test_rows_follow_shards_and_members(tmp_path: Path):
    shards = write_shards(tmp_path, [3, 0, 2])
    index = ShardIndex.build(shards)
    assert len(index) == 5
    assert index.starts.tolist() == [0, 3, 3, 5]
    assert [index.key(row) for row in range(5)] == ["000000000", "000000001", "000000002", "000020000", "000020001"]
    assert index.shard_of(np.arange(5)).tolist() == [0, 0, 0, 2, 2]
    assert index.where(3) == "00002.tar, key 000020000 (row 3)"
    for row in range(5):
        path = index.shards[int(index.shard_of(row))]
        with tarfile.open(path) as tar, open(path, "rb") as file:
            file.seek(index.offset[row, IMAGE])
            member = tar.extractfile(f"{index.key(row)}.jpg")
            assert member is not None and file.read(index.size[row, IMAGE]) == member.read()


def test_saved_and_loaded_it_is_the_same(tmp_path: Path):
    index = ShardIndex.build(write_shards(tmp_path / "data", [2, 3]))
    index.save(tmp_path / "index")
    again = ShardIndex.load(tmp_path / "index")
    assert again.fingerprint == index.fingerprint and again.shards == index.shards
    assert (again.offset == index.offset).all() and (again.size == index.size).all()
    assert again.keys.to_pylist() == index.keys.to_pylist()


def test_the_fingerprint_is_of_content_not_of_places(tmp_path: Path):
    first = ShardIndex.build(write_shards(tmp_path / "a", [2, 2]))
    elsewhere = ShardIndex.build(write_shards(tmp_path / "b", [2, 2]))
    other = ShardIndex.build(write_shards(tmp_path / "c", [2, 1]))
    turned = ShardIndex.build(write_shards(tmp_path / "d", [2, 2])[::-1])
    assert first.fingerprint == elsewhere.fingerprint
    assert len({first.fingerprint, other.fingerprint, turned.fingerprint}) == 3


def test_a_sample_without_image_or_caption_is_invalid(tmp_path: Path):
    entries = [
        ("0", sample(0)),
        ("1", sample(1, jpg=None)),
        ("2", sample(2, txt=None, json=None)),
        ("3", sample(3, txt=None)),  # the json may hold the caption
        ("4", sample(4, jpg=b"")),
    ]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", entries)])
    assert index.valid.tolist() == [True, False, False, True, False]
    assert index.size[1, IMAGE] == -1 and index.size[2, TEXT] == -1


def test_equal_keys_are_different_rows(tmp_path: Path):
    one = write_tar(tmp_path / "0.tar", [("k", sample(0)), ("k", sample(1))])
    two = write_tar(tmp_path / "1.tar", [("k", sample(2))])
    index = ShardIndex.build([one, two])
    assert len(index) == 3 and index.valid.all()
    assert len(np.unique(index.offset[:2, IMAGE])) == 2


def test_other_files_are_no_members(tmp_path: Path):
    path = write_tar(tmp_path / "0.tar", [("0", sample(0) | {"cls": b"3", "seg.png": b"x"}), ("._0", {"jpg": b"mac"})])
    index = ShardIndex.build([path])
    assert index.keys.to_pylist() == ["0"] and index.valid.all()


def test_a_cut_off_shard_keeps_what_is_good(tmp_path: Path):
    good, cut = write_shards(tmp_path, [2, 3])
    (tmp_path / "00001_stats.json").write_text(json.dumps({"successes": 3}))
    cut.write_bytes(cut.read_bytes()[: ShardIndex.build([cut]).offset[2, IMAGE] + 10])
    index = ShardIndex.build([good, cut])
    assert index.valid.sum() == 4
    assert "00001.tar is damaged after 3 samples (of 3 by 00001_stats.json)" in index.problems[0] or (
        "00001.tar is damaged after 2 samples (of 3 by 00001_stats.json)" in index.problems[0]
    )
    with pytest.raises(HelipError, match=r"00001\.tar is damaged.*data\.on_error=skip"):
        ShardIndex.build([good, cut], on_error="fail")


def test_a_file_that_is_no_tar(tmp_path: Path):
    good = write_shards(tmp_path, [2])[0]
    bad = tmp_path / "00001.tar"
    bad.write_bytes(b"<html>not found</html>" * 100)
    assert len(ShardIndex.build([good, bad])) == 2
    with pytest.raises(HelipError, match=r"nothing in the 1 shards.*no tar header"):
        ShardIndex.build([bad])


def test_nothing_usable_says_why(tmp_path: Path):
    path = write_tar(tmp_path / "0.tar", [("0", sample(0, txt=None, json=None)), ("1", sample(1, jpg=None))])
    with pytest.raises(HelipError, match="of 2 samples 1 have no image and 1 have no caption"):
        ShardIndex.build([path])


def test_no_shards_and_missing_shards(tmp_path: Path):
    with pytest.raises(HelipError, match="no shards"):
        ShardIndex.build([])
    with pytest.raises(HelipError, match="does not exist"):
        ShardIndex.build([tmp_path / "0.tar"])


def test_parts_are_slices_of_shards(tmp_path: Path):
    index = ShardIndex.build(write_shards(tmp_path, [3, 2, 4]))
    assert index.rows_of("0:2") == range(0, 5)
    assert index.rows_of("-1:") == range(5, 9)
    assert index.rows_of(":") == range(0, 9)
    for part in ("3:", "2:1", "0", "a:b"):
        with pytest.raises(HelipError):
            index.rows_of(part)


def test_a_damaged_index_is_refused(tmp_path: Path):
    ShardIndex.build(write_shards(tmp_path / "data", [2])).save(tmp_path / "index")
    meta = tmp_path / "index" / "shards.json"
    meta.write_text(meta.read_text().replace('"version": 2', '"version": 99'))
    with pytest.raises(HelipError, match="format 99"):
        ShardIndex.load(tmp_path / "index")
    meta.write_text("{")
    with pytest.raises(HelipError, match="cannot be read"):
        ShardIndex.load(tmp_path / "index")


def test_many_shards_are_scanned_by_processes(tmp_path: Path, monkeypatch):
    shards = write_shards(tmp_path, [2, 1, 3, 1])
    alone = ShardIndex.build(shards)
    monkeypatch.setattr("helip.artifacts.shard_scan.SHARDS_PER_PROCESS", 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    seen = []
    together = ShardIndex.build(shards, on_shard=seen.append)
    assert together.fingerprint == alone.fingerprint and (together.offset == alone.offset).all()
    assert seen == [1, 2, 3, 4]


UNGUARDED = """
import os, sys
from pathlib import Path
from helip import ShardIndex
from helip.artifacts import shard_scan
shard_scan.SHARDS_PER_PROCESS, os.sched_getaffinity = 2, lambda _: {0, 1}
print(len(ShardIndex.build(sorted(Path(sys.argv[1]).glob("*.tar")))), "rows")
"""


def test_a_program_without_a_main_guard_is_served_by_one_process(tmp_path: Path):
    """Each spawned process first runs the program, and may not start processes while it does."""
    write_shards(tmp_path, [2, 1, 3, 1])
    (tmp_path / "user.py").write_text(UNGUARDED)
    called = subprocess.run(
        [sys.executable, tmp_path / "user.py", tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert called.returncode == 0 and called.stdout == "7 rows\n", called.stderr
    assert "freeze_support" in called.stderr  # the processes started and died


def test_a_scan_holds_arrays(tmp_path: Path):
    count = 1000
    members = [header(b"%09d.%s" % (n, kind), 0) for n in range(count) for kind in (b"jpg", b"txt", b"json")]
    (tmp_path / "0.tar").write_bytes(b"".join(members) + END)
    tracemalloc.start()
    try:
        scan = scan_shard(tmp_path / "0.tar", Members())
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(scan.keys) == count and scan.size.dtype == np.int32
    assert held < 100 * count  # lists of numbers and strings held 370 bytes a row


def test_a_member_of_2_gib_is_kept_and_an_index_of_it_loads(tmp_path: Path):
    size = 2**31 + 5
    with open(tmp_path / "0.tar", "wb") as file:
        file.write(header(b"a.jpg", 1) + padded(b"x") + header(b"a.txt", 1) + padded(b"y") + header(b"a.json", size))
        file.seek(-(-size // 512) * 512, os.SEEK_CUR)  # a hole
        file.write(header(b"b.jpg", 1) + padded(b"x") + header(b"b.txt", 1) + padded(b"y") + END)
    index = ShardIndex.build([tmp_path / "0.tar"])
    index.save(tmp_path / "index")
    again = ShardIndex.load(tmp_path / "index")
    assert not index.problems and again.valid.tolist() == [True, True]
    assert again.size[:, JSON].tolist() == [size, -1] and index.offset[1, IMAGE] > size


def test_a_shard_whose_name_is_no_utf8(tmp_path: Path):
    (path,) = write_shards(tmp_path, [2])
    named = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.tar"))
    path.rename(named)
    ShardIndex.build([named]).save(tmp_path / "index")
    index = ShardIndex.load(tmp_path / "index")
    assert index.shards == [named] and index.where(1) == "\ufffd.tar, key 000000001 (row 1)"
    named.write_bytes(named.read_bytes()[:5000])
    assert ShardIndex.build([named]).problems[0].startswith("\ufffd.tar is damaged")


def test_tars_joined_by_cat_are_a_problem(tmp_path: Path):
    """Without this message, data behind the first end-of-archive mark are dropped."""
    one, two = write_shards(tmp_path, [3, 2])
    (tmp_path / "big.tar").write_bytes(one.read_bytes() + two.read_bytes())
    index = ShardIndex.build([tmp_path / "big.tar"])
    assert len(index) == 3 and index.valid.all()
    assert "big.tar is damaged after 3 samples: more data after the end-of-archive mark" in index.problems[0]


def test_members_that_stand_apart_are_refused(tmp_path: Path):
    images = [(f"{n}", {"jpg": b"x"}) for n in range(3)]
    texts = [(f"{n}", {"txt": b"y"}) for n in range(3)]
    whole = write_tar(tmp_path / "0.tar", [("0", sample(0)), ("1", sample(1, jpg=None)), ("0", sample(2))])
    unsorted = write_tar(tmp_path / "1.tar", [*images, *texts[:2], ("2", sample(0))])
    assert ShardIndex.build([whole]).apart() is None
    for shards in ([whole, unsorted], [unsorted]):
        with pytest.raises(HelipError, match=r"2 samples are not adjacent in 1\.tar, .* 0: .*--sort=name"):
            ShardIndex.build(shards)
    write_tar(unsorted, [*images, *texts])
    with pytest.raises(HelipError, match=r"3 samples are not adjacent in 1\.tar"):
        ShardIndex.build([unsorted])
