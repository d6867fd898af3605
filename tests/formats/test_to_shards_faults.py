"""helip convert to-shards: bad pairs are counted by reason, and sources that are no layout are named."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from helip.errors import HelipError
from helip.formats.sources import Options, recognise
from helip.formats.to_shards import columns, to_shards
from tests.formats.layouts import image_folder, packed_by_tar, photos, read_back, write_csv
from tests.samples import picture, sample, write_tar


def test_bad_pairs_are_counted_by_reason(tmp_path: Path) -> None:
    root = tmp_path / "in"
    photos(root)
    (root / "cut.jpg").write_bytes(picture(1)[:200])
    (root / "empty.jpg").write_bytes(b"")
    lines = [["0.jpg", "good"], ["gone.jpg", "a"], ["cut.jpg", "b"], ["1.jpg", " "], ["http://x/y.jpg", "c"]]
    lines += [["2.jpg", "too", "many"], ["empty.jpg", "d"], ["gone2.jpg", "e"], ["3.jpg", "good too"]]
    path = write_csv(root / "list.csv", [["filepath", "title"], *lines])
    done = to_shards(path, tmp_path / "out", per_shard=4, on_error="skip")
    reasons = {"no image file": 2, "an image that cannot be decoded": 1, "no caption": 1, "no image": 1}
    reasons |= {"an address instead of a file": 1, "a malformed line": 1}
    assert done.samples == 2 and done.reasons == reasons
    assert json.loads((tmp_path / "out/conversion.json").read_text())["left_out"] == reasons
    assert [text for (text,), _ in read_back(tmp_path / "out")] == ["good", "good too"]
    said = done.sentences()
    assert said[0] == "2 samples in 2 shards" and said[1].startswith("7 were left out (1 with a malformed line, 1 with")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == ["00000.tar", "00002.tar"]
    with pytest.raises(HelipError, match=r"list\.csv, line 3: '.*gone\.jpg' cannot be read .*--on-error skip"):
        to_shards(path, tmp_path / "fail", per_shard=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("separator", ["\t", ","])
def test_an_open_quote_that_swallows_lines(tmp_path: Path, separator: str) -> None:
    """Four lines that csv's quoting joins into two: a warning, an error, or all four with quoting none."""
    names = photos(tmp_path)
    texts = ["plain", '"an open quote', "in between", 'closed here"', "last"]
    lines = [separator.join(("filepath", "title"))]
    lines += [separator.join((names[n], text)) for n, text in enumerate(texts)]
    path = tmp_path / "list.tsv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(HelipError, match=r"line 3: a quoted field holds whole lines.*--quoting none"):
        to_shards(path, tmp_path / "out")
    done = to_shards(path, tmp_path / "skip", on_error="skip")
    assert done.samples == 2 and done.reasons == {"a quoted field that swallows lines": 1}
    assert "hold line breaks and separators, at line 3" in done.sentences()[-1]
    done = to_shards(path, tmp_path / "none", Options(quoting="none"))
    assert [text for (text,), _ in read_back(tmp_path / "none")] == texts and not done.warnings


def test_a_quoted_caption_of_several_lines_is_kept_with_a_warning(tmp_path: Path) -> None:
    photos(tmp_path)
    text = "first, of two\nsecond line"
    path = write_csv(tmp_path / "list.csv", [["filepath", "title", "n"], ["0.jpg", text, "1"]])
    done = to_shards(path, tmp_path / "out")
    assert read_back(tmp_path / "out")[0][0] == [text] and "at line 2" in done.warnings[0]


def test_columns_of_other_names(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    path = write_csv(tmp_path / "list.csv", [["bild", "text_de", "split"], ["0.jpg", "rot", "train"]])
    with pytest.raises(
        HelipError, match=r"no known column for the images, .*'bild', 'text_de', 'split': give --columns"
    ):
        recognise(path, Options())
    options = Options(columns("image=bild,caption=text_de"), images=tmp_path / "photos")
    assert to_shards(path, tmp_path / "out", options).samples == 1
    assert SampleReader(ShardIndex.build([tmp_path / "out/00000.tar"]), "split").captions(0) == ("train",)
    with pytest.raises(HelipError, match="--columns image=nope: there is no such column, only 'bild'"):
        recognise(path, Options({"image": "nope"}))


def test_masks_beside_photos_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for extension in ("png", "jpg"):
        (tmp_path / f"in/a.{extension}").write_bytes(
            picture(int(extension == "png"), format=extension.replace("jpg", "jpeg"))
        )
    (tmp_path / "in/a.txt").write_text("a photo")
    done = to_shards(tmp_path / "in", tmp_path / "out")
    assert read_back(tmp_path / "out") == [(["a photo"], picture(0))]
    assert done.warnings == ["1 files were passed over, because another picture or text has the same name"]
    write_tar(
        tmp_path / "t/0.tar", [("a", {"png": picture(1)}), ("b", sample(2)), ("a", {"txt": b"x", "jpg": picture(0)})]
    )
    done = to_shards(tmp_path / "t", tmp_path / "again")
    assert [image for _, image in read_back(tmp_path / "again")] == [picture(0), picture(2)]
    assert done.warnings == ["1 members were passed over: another picture or text has their key"]


def test_what_is_none_of_them_says_so(tmp_path: Path) -> None:
    photos(tmp_path / "only")
    for splits in ("train", "test"):
        (tmp_path / "splits" / splits).mkdir(parents=True)
        pq.write_table(pa.table({"jpg": [picture(0)], "txt": ["a"]}), tmp_path / "splits" / splits / "0.parquet")
        image_folder(tmp_path / "folders" / splits)
    (tmp_path / "instances.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "x"}], "annotations": [{}]}))
    (tmp_path / "cut.tar.gz").write_bytes((packed_by_tar(tmp_path / "t")).read_bytes()[:900])
    (tmp_path / "x.parquet").write_bytes(b"none")
    for name, sentence in (
        ("only", "has none of the known layouts"),
        ("gone", "there is no such file or folder"),
        ("splits", "holds the splits test, train: convert each into its own folder"),
        ("folders", r"metadata of several splits \(test, train\)"),
        ("instances.json", r"has no captions: give captions_\*\.json"),
        ("cut.tar.gz", "is damaged .*fetch it again"),
        ("x.parquet", "cannot be read as a table"),
    ):
        with pytest.raises(HelipError, match=sentence):
            to_shards(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()
