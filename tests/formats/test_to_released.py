"""HELIP's hard pairs as the authors' files: their loader reads them, and ids are lines of the training list."""

import csv
import errno
import json
import random
from pathlib import Path

import pandas
import pytest
from PIL import Image, ImageChops

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from helip.data.transforms import decode_image
from helip.errors import HelipError
from helip.formats.from_released import from_released
from helip.formats.shards_to_csv import shards_to_csv
from helip.formats.to_released import to_released
from tests.formats.released import files, hard_pairs
from tests.samples import sample, write_shards, write_tar


def test_their_loader_reads_the_pairs_that_were_mined(tmp_path: Path, index: ShardIndex, training_list: Path) -> None:
    """CsvDataset and CustomDistributedSampler of their data.py, restated, draw a hard pair of each target."""
    pairs = hard_pairs(len(index), 6, index.fingerprint)
    to_released(pairs, training_list, tmp_path, "toy")
    table = pandas.read_csv(training_list, sep=",")
    titles, paths = table["title"].tolist(), table["filepath"].tolist()
    with open(tmp_path / "toy_hard_sample.csv", newline="", encoding="utf-8") as file:
        hard = {int(line[0]): [int(entry) for entry in line[1:]] for line in csv.reader(file)}
    reader, generator = SampleReader(index), random.Random(0)
    for target in generator.sample(range(len(table)), 30):
        drawn = hard[target][generator.choice(range(50))]
        assert drawn in pairs.rows[target]
        assert titles[drawn] == reader.captions(drawn)[0]
        stored = decode_image(reader.image_bytes(drawn))
        assert not ImageChops.difference(Image.open(paths[drawn]).convert("RGB"), stored).getbbox()


def test_lines_are_ids_where_rows_are_missing_or_urls_repeat(tmp_path: Path) -> None:
    """Unreadable rows have no line, a repeated url is in the url index once, and ids are still lines."""
    count = 30
    members = [sample(row, json=json.dumps({"url": f"u{row // 2}" if row else None}).encode()) for row in range(count)]
    members[4]["jpg"], members[9]["txt"] = b"no image", b"\xff\xfe"
    del members[12]["jpg"]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", [(f"{row:04d}", m) for row, m in enumerate(members)])])
    said = shards_to_csv(index, tmp_path / "list", "toy")
    assert said[0].startswith("27 lines in") and said[1] == "3 rows cannot be read and have no line, such as:"
    assert [line.split(": ")[0] for line in said[2:]] == [f"0.tar, key {row:04d} (row {row})" for row in (4, 9, 12)]
    pairs = hard_pairs(count, 3, index.fingerprint)
    pairs.rows[7] = -1
    pairs.rows[8] = [4, 9, 12]
    said = to_released(pairs, tmp_path / "list/toy.csv", tmp_path / "out", "toy")
    assert said[:2] == ["25 of 27 lines have hard pairs", "2 have none: their loader gives these a random partner"]
    assert said[2].startswith("11 lines repeat a url and 1 have none")
    rows = pandas.read_csv(tmp_path / "list/toy.csv")["row"].tolist()
    lists = json.loads((tmp_path / "out/toy_hard_sample_dict.json").read_text())
    kept = {row: [other for other in pairs.rows[row].tolist() if other in rows] for row in rows}
    assert {len(found) for found in lists.values()} == {50}
    assert {rows[int(line)]: [rows[other] for other in dict.fromkeys(found)] for line, found in lists.items()} == {
        row: found for row, found in kept.items() if found
    }
    arguments = {"order": "row", "training_list": tmp_path / "list/toy.csv"}
    from_released(tmp_path / "out/toy_hard_sample.csv", index, tmp_path / "ours", **arguments)
    again = HardPairIndex.load(tmp_path / "ours")
    assert {row: [other for other in again.rows[row].tolist() if other >= 0] for row in rows} == kept


def test_an_export_that_is_cut_off_leaves_no_ids_of_another_list(
    tmp_path: Path, index: ShardIndex, training_list: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ShardIndex.build(write_shards(tmp_path / "tars", [9]))
    shards_to_csv(other, tmp_path / "list", "toy")
    to_released(hard_pairs(len(index), 3, index.fingerprint), training_list, tmp_path / "out", "toy")
    assert len(files(tmp_path / "out")) == 3

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("helip.formats.released_files.csv.writer", full)
    with pytest.raises(OSError, match="No space"):
        to_released(hard_pairs(9, 3, other.fingerprint), tmp_path / "list/toy.csv", tmp_path / "out", "toy")
    assert list(files(tmp_path / "out")) == ["url_index/toy_url_index.json"]


def test_a_list_of_other_shards_is_refused(tmp_path: Path, index: ShardIndex, training_list: Path) -> None:
    other = ShardIndex.build(write_shards(tmp_path, [84]))
    (tmp_path / "x.csv").write_text("0,1\n")
    with pytest.raises(HelipError, match=r"was written from other shards .* than the hard pairs were mined on"):
        to_released(hard_pairs(84, 3, other.fingerprint), training_list, tmp_path / "out", "toy")
    with pytest.raises(HelipError, match="was written from other shards than those in"):
        from_released(tmp_path / "x.csv", other, tmp_path / "o", order="row", training_list=training_list)
