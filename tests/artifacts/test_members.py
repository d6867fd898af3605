"""The members of a key that are its image and caption, skipped members, and indexes of the older format."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from helip.artifacts.datasets import DatasetSpec, incomplete, open_index
from helip.artifacts.members import IMAGE, JSON, TEXT, Members
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from helip.errors import HelipError
from tests.samples import picture, sample, write_shards, write_tar


def built(folder: Path, members: dict[str, bytes], roles: Members | None = None) -> ShardIndex:
    return ShardIndex.build([write_tar(folder / "0.tar", [("00000", members)])], members=roles)


PHOTO, MASK = picture(1), picture(2, format="PNG")


ORDERS = ("jpg png txt", "png txt jpg", "txt jpg json png", "json png jpg txt")


@pytest.mark.parametrize("order", ORDERS)
def test_a_photo_and_a_mask_are_one_row(tmp_path: Path, order: str) -> None:
    """Format 1 gave the caption to the member that came first, and the other image was lost."""
    files = {"jpg": PHOTO, "png": MASK, "txt": b"a dog", "json": b"{}"}
    index = built(tmp_path, {suffix: files[suffix] for suffix in order.split()})
    raw = SampleReader(index).read(0)
    assert len(index) == 1 and raw.image == PHOTO and raw.captions == ("a dog",)
    assert index.passed_over == {"png": 1}
    assert "1 .png skipped, because dataset.members prefers" in incomplete(index)[0]


def test_the_preference_is_a_setting(tmp_path: Path) -> None:
    files = {"jpg": PHOTO, "png": MASK, "txt": b"a dog", "caption": b"a cat"}
    index = built(tmp_path, files, Members.of({"image": ["PNG", ".jpg"], "caption": ["caption", "txt"]}))
    raw = SampleReader(index).read(0)
    assert raw.image == MASK and raw.captions == ("a cat",)
    assert index.passed_over == {"jpg": 1, "txt": 1}


def test_suffixes_of_several_parts_can_be_named(tmp_path: Path) -> None:
    files = {"left.jpg": PHOTO, "right.jpg": MASK, "caption.txt": b"a dog"}
    index = built(tmp_path, files, Members.of({"image": ["left.jpg"], "caption": ["caption.txt"]}))
    assert SampleReader(index).read(0).image == PHOTO and index.passed_over == {}
    with pytest.raises(HelipError, match=r"of 1 samples 1 have no image .*dataset\.members"):
        built(tmp_path, files)


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ({"images": ["jpg"]}, "has no images, only image and caption"),
        ({"image": []}, "must list suffixes"),
        ({"image": ["jpg"], "caption": ["jpg"]}, "names .jpg for two roles"),
        ({"caption": ["json"]}, "names .json for two roles"),
    ],
)
def test_members_that_make_no_sense(named, sentence: str) -> None:
    with pytest.raises(HelipError, match=sentence):
        Members.of(named)


def test_two_samples_of_one_key_side_by_side_stay_two(tmp_path: Path) -> None:
    entries = [("k", sample(0)), ("k", sample(1))]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", entries)])
    assert [SampleReader(index).read(row).image for row in range(2)] == [picture(0), picture(1)]


def test_data_that_were_right_keep_their_fingerprint_and_others_get_a_new_one(tmp_path: Path) -> None:
    """The expected fingerprints are those of format 1."""
    plain = ShardIndex.build(write_shards(tmp_path / "plain", [3]))
    assert plain.fingerprint.startswith(format_1_fingerprint(Path(str(plain.shards[0])))[:16])
    masked = built(tmp_path / "masked", {"jpg": PHOTO, "png": MASK, "txt": b"a dog"})
    assert masked.fingerprint != format_1_fingerprint(Path(str(masked.shards[0])))
    turned = built(tmp_path / "masked", {"jpg": PHOTO, "png": MASK, "txt": b"a dog"}, Members.of({"image": ["png"]}))
    assert turned.fingerprint != masked.fingerprint


def format_1_fingerprint(path: Path) -> str:
    import hashlib

    hasher = hashlib.sha256(f"{path.name}\0{path.stat().st_size}".encode())
    with tarfile.open(path) as tar:
        for member in tar:
            hasher.update(f"\0{member.name}\0{member.offset_data}\0{member.size}".encode())
    return hashlib.sha256(hasher.hexdigest().encode()).hexdigest()


def as_format_1(folder: Path) -> None:
    meta = json.loads((folder / "shards.json").read_text())
    for name in ("members", "passed_over", "leftovers"):
        del meta[name]
    (folder / "shards.json").write_text(json.dumps(meta | {"version": 1}))


def test_an_index_of_format_1_is_read_where_its_rows_are_those_of_today(tmp_path: Path) -> None:
    index = ShardIndex.build(write_shards(tmp_path / "data", [2, 3]))
    index.save(tmp_path / "index")
    as_format_1(tmp_path / "index")
    again = ShardIndex.load(tmp_path / "index")
    assert again.fingerprint == index.fingerprint and np.array_equal(again.offset, index.offset)


@pytest.mark.parametrize("change", ["repeated key", "no caption file", "skipped by webdataset"])
def test_an_index_of_format_1_is_made_anew_where_they_may_not_be(tmp_path: Path, change: str) -> None:
    entries = {
        "repeated key": [("k", sample(0)), ("k", sample(1))],
        "no caption file": [("k", sample(0, txt=None))],
        "skipped by webdataset": [("__k", sample(0))],
    }[change]
    write_tar(tmp_path / "data/0.tar", entries)
    spec, console = DatasetSpec("folder", str(tmp_path / "data")), Console(quiet=True)
    index = open_index(spec, tmp_path / "artifacts", "skip", console)
    (folder,) = (path.parent for path in (tmp_path / "artifacts").glob("*/*/shards.json"))
    as_format_1(folder)
    with pytest.raises(HelipError, match=r"format 1, .*: delete it"):
        ShardIndex.load(folder)
    again = open_index(spec, tmp_path / "artifacts", "skip", console)
    assert json.loads((folder / "shards.json").read_text())["version"] == 2
    assert again.fingerprint == index.fingerprint


def test_members_are_part_of_the_name_of_the_index(tmp_path: Path) -> None:
    write_tar(tmp_path / "data/0.tar", [("0", {"jpg": PHOTO, "png": MASK, "txt": b"a dog"})])
    asked: list[dict[str, list[str] | None]] = [{}, {"image": None}, {"image": ["png"]}]
    found = [
        open_index(
            DatasetSpec("folder", str(tmp_path / "data"), members=members),
            tmp_path / "artifacts",
            "skip",
            Console(quiet=True),
        )
        for members in asked
    ]
    images = [index.size[0, IMAGE] for index in found]
    assert images == [len(PHOTO), len(PHOTO), len(MASK)] and found[2].members.image == ("png",)
    assert len(list((tmp_path / "artifacts/folder").glob("shards-*/shards.json"))) == 2
    assert (TEXT, JSON) == (1, 2)


@pytest.mark.parametrize(
    "entries",
    [
        [("0", {"jpg": b"x"}), ("1", {"jpg": b"x"}), ("0", {"txt": b"y"}), ("1", {"txt": b"y"})],
        [("0", {"txt": b"y"}), ("1", sample(1)), ("0", {"jpg": b"x"}), ("2", sample(2)), ("3", sample(3))],
        [("a/0", {"jpg": b"x"}), ("b/0", sample(0)), ("a/0", {"json": b"{}"})],
        [("0", {"jpg": b"x", "txt": b"y"}), ("1", sample(1)), ("0", {"json": b"{}"})],
    ],
)
def test_members_apart_are_refused_whatever_else_is_there(tmp_path: Path, entries) -> None:
    for on_error in ("skip", "fail"):
        with pytest.raises(HelipError, match=r"are not adjacent in 0\.tar.*tar --sort=name"):
            ShardIndex.build([write_tar(tmp_path / "0.tar", entries)], on_error=on_error)


@pytest.mark.parametrize(
    "entries",
    [
        [("0", sample(0)), ("1", sample(1)), ("0", sample(2, txt=None, json=None))],
        [("0", {"cls": b"1"}), ("1", sample(1)), ("0", sample(2))],
        [("a/0", {"jpg": b"x"}), ("1", sample(1)), ("b/0", {"txt": b"y"})],
    ],
)
def test_samples_that_share_a_key_but_lack_something_are_no_pieces(tmp_path: Path, entries) -> None:
    assert ShardIndex.build([write_tar(tmp_path / "0.tar", entries)]).valid.any()
