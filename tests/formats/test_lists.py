"""Training lists of open_clip to shards and back: hostile captions and keys are kept, errors name their line."""

import json
import tarfile
from pathlib import Path

import pandas
import pytest
from PIL import Image

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, url_of
from helip.errors import HelipError
from helip.formats.shards_to_csv import read_list, shards_to_csv
from helip.formats.sources import Options
from helip.formats.to_shards import to_shards
from tests.samples import picture, sample, write_shards, write_tar

CAPTIONS = [
    "plain",
    "comma, \"quoted\", and 'single'",
    "two\nlines\r\nand\rmore\ttab",
    "a lone\rreturn",
    "<script>alert(1)</script>&amp;",
    "bell\x07 nul\x00 escape\x1b[31m",
    "NA",
    "null",
    "None",
    "1984",
    "=SUM(A1:A9)",
    "🧯 комма 逗号",
    "x" * 1_000_000,
    '"starts and ends"',
]
CLEAN = {"bell\x07 nul\x00 escape\x1b[31m": "bell  nul  escape [31m", "NA": "NA ", "null": "null ", "None": "None "}
CLEAN |= {"two\nlines\r\nand\rmore\ttab": "two\nlines \nand more\ttab", "a lone\rreturn": "a lone return"}
URLS = ["u", "u", None, "", 'http://x/?a=1,2&b="3"', "http://x/\nnewline", "javascript:alert(1)"] * 2


def hostile_shards(folder: Path) -> ShardIndex:
    """The same keys in two shards, and one of them twice with another sample between."""
    samples = [
        (f"dir,1/k{n % 5}", sample(n, txt=caption.encode(), json=json.dumps({"url": URLS[n]}).encode()))
        for n, caption in enumerate(CAPTIONS)
    ]
    return ShardIndex.build([write_tar(folder / "a.tar", samples[:6]), write_tar(folder / "b.tar", samples[6:])])


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_hostile_captions_reach_open_clip(tmp_path: Path, separator: str) -> None:
    """Read as open_clip's CsvDataset reads: pandas, then str(). The last shard is there, every image has a file."""
    index = hostile_shards(tmp_path / "tars")
    shards_to_csv(index, tmp_path / "out", "toy", separator)
    table = pandas.read_csv(tmp_path / "out/toy.csv", sep=separator)
    assert [str(title) for title in table["title"].tolist()] == [CLEAN.get(text, text) for text in CAPTIONS]
    paths = [Path(path) for path in table["filepath"].tolist()]
    assert len(set(paths)) == len(CAPTIONS) and all(path.is_absolute() for path in paths)
    assert [path.read_bytes() for path in paths] == [picture(n) for n in range(len(CAPTIONS))]
    assert table["row"].tolist() == list(range(len(CAPTIONS)))
    found = read_list(tmp_path / "out/toy.csv")
    assert found.fingerprint == index.fingerprint
    assert list(found.urls()) == [url or None for url in URLS[: len(CAPTIONS)]]


def test_a_list_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = ShardIndex.build(write_shards(tmp_path / "tars", [3]))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("helip.formats.shards_to_csv.write_json", fail)
        with pytest.raises(KeyboardInterrupt):
            shards_to_csv(index, tmp_path / "out", "toy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tars"]
    shards_to_csv(index, tmp_path / "out", "toy")
    with pytest.raises(HelipError, match="out is there already: name a new folder"):
        shards_to_csv(index, tmp_path / "out", "toy")
    with pytest.raises(HelipError, match="a separator is one character"):
        shards_to_csv(index, tmp_path / "two", "toy", "::")
    lines = (tmp_path / "out/toy.csv").read_text().splitlines(keepends=True)
    for damaged in (lines[:-1], [lines[0], lines[2], lines[1], lines[3]], ["a,b\n", "1,2\n"], [*lines[:3], "x\n"]):
        (tmp_path / "out/toy.csv").write_text("".join(damaged))
        with pytest.raises(HelipError, match=r"write it again|line 4: 1 fields"):
            read_list(tmp_path / "out/toy.csv")
    about = tmp_path / "out/toy.json"
    about.write_text(about.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(HelipError, match=r"the training list in .* has format 2, not 1: it comes from a newer HELIP"):
        read_list(tmp_path / "out/toy.csv")
    about.unlink()
    with pytest.raises(HelipError, match=r"needs toy\.json beside it"):
        read_list(tmp_path / "out/toy.csv")


def test_images_are_named_by_what_they_are(tmp_path: Path) -> None:
    """A PNG called .jpg in the shard; open_clip opens files by content, other tools by name."""
    members = [sample(0, jpg=picture(0, format="PNG")), sample(1, jpg=picture(1, format="WEBP")), sample(2)]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", [(str(n), m) for n, m in enumerate(members)])])
    shards_to_csv(index, tmp_path / "out", "toy")
    names = [Path(path).name for path in pandas.read_csv(tmp_path / "out/toy.csv")["filepath"].tolist()]
    assert names == ["000000000.png", "000000001.webp", "000000002.jpg"]


def write_list(folder: Path, captions: list[str], separator: str = "\t") -> Path:
    """As pandas writes it, with relative and absolute paths and one more column."""
    (folder / "images").mkdir(parents=True)
    paths = []
    for number in range(len(captions)):
        path = Path("images") / f"{number}.{'png' if number % 2 else 'jpg'}"
        (folder / path).write_bytes(picture(number, format="PNG" if number % 2 else "JPEG"))
        paths.append(str(folder / path if number % 3 else path))
    table = pandas.DataFrame({"filepath": paths, "title": captions, "alt": [f"alt {n}" for n in range(len(captions))]})
    table.to_csv(folder / "list.csv", sep=separator, index=False)
    return folder / "list.csv"


@pytest.mark.parametrize("separator", ["\t", ","])
def test_a_list_becomes_shards_in_its_order(tmp_path: Path, separator: str) -> None:
    captions = [text for text in CAPTIONS if "\x07" not in text and "lone" not in text] + ["twice", "twice"]
    path = write_list(tmp_path / "in", captions, separator)
    packed = to_shards(path, tmp_path / "out", per_shard=5)
    assert packed.sentences()[0] == "14 samples in 3 shards"
    assert sorted(p.name for p in (tmp_path / "out").iterdir())[:2] == ["00000.tar", "00000_stats.json"]
    index = ShardIndex.build(sorted((tmp_path / "out").glob("*.tar")))
    assert index.valid.all() and not index.problems and index.key(5) == "000010000"
    reader, alt = SampleReader(index), SampleReader(index, "alt")
    for row, caption in enumerate(captions):
        assert reader.captions(row) == (caption.strip(),) and alt.captions(row) == (f"alt {row}",)
        assert reader.image_bytes(row) == picture(row, format="PNG" if row % 2 else "JPEG")
        assert (url_of(reader, row) or "").endswith(f"images/{row}.{'png' if row % 2 else 'jpg'}")
    with tarfile.open(tmp_path / "out/00000.tar") as tar:
        assert tar.getnames()[:4] == ["000000000.jpg", "000000000.json", "000000000.txt", "000000001.json"]
    assert json.loads((tmp_path / "out/00002_stats.json").read_text())["successes"] == 4


def test_the_columns_of_the_list_are_kept(tmp_path: Path) -> None:
    """Columns `key`, `caption` and `status` of a list replace our fields; the .txt member is unchanged."""
    (tmp_path / "0.jpg").write_bytes(picture(0))
    (tmp_path / "list.csv").write_text("filepath,title,key,caption,status\n0.jpg,a dog,k7,ein Hund,checked\n")
    to_shards(tmp_path / "list.csv", tmp_path / "out")
    index = ShardIndex.build([tmp_path / "out/00000.tar"])
    assert index.key(0) == "000000000" and SampleReader(index).captions(0) == ("a dog",)
    for column, value in (("key", "k7"), ("caption", "ein Hund"), ("status", "checked")):
        assert SampleReader(index, column).captions(0) == (value,)
    (tmp_path / "list.csv").write_text("filepath,title,alt,alt\n0.jpg,a dog,one,two\n")
    with pytest.raises(HelipError, match=r"list\.csv names the column 'alt' more than once: rename or remove one"):
        to_shards(tmp_path / "list.csv", tmp_path / "two")


def test_photos_with_a_preview_are_jpgs_both_ways(tmp_path: Path) -> None:
    """Pillow opens what many cameras and phones write as MPO: a JPEG with more pictures behind the first."""
    photo = Image.new("RGB", (16, 16), "red")
    photo.save(tmp_path / "0.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    (tmp_path / "list.csv").write_text("filepath\ttitle\n0.jpg\tred\n")
    to_shards(tmp_path / "list.csv", tmp_path / "tars")
    with tarfile.open(tmp_path / "tars/00000.tar") as tar:
        assert tar.getnames()[0] == "000000000.jpg"
    shards_to_csv(ShardIndex.build([tmp_path / "tars/00000.tar"]), tmp_path / "out", "toy")
    (image,) = (tmp_path / "out/images").rglob("*.*")
    assert image.suffix == ".jpg" and image.read_bytes() == (tmp_path / "0.jpg").read_bytes()


def test_shards_to_a_list_to_shards(tmp_path: Path) -> None:
    index = ShardIndex.build(write_shards(tmp_path / "tars", [4, 3]))
    shards_to_csv(index, tmp_path / "list", "toy")
    to_shards(tmp_path / "list/toy.csv", tmp_path / "again", per_shard=4)
    again = ShardIndex.build(sorted((tmp_path / "again").glob("*.tar")))
    one, two = SampleReader(index), SampleReader(again)
    for row in range(7):
        assert one.image_bytes(row) == two.image_bytes(row) and one.captions(row) == two.captions(row)
        assert url_of(one, row) == url_of(two, row) == f"u{row}"  # the url column of the list


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            b"images/9.jpg\tno such image\n",
            r"list\.csv, line 5: '.*images/9\.jpg' cannot be read \(FileNotFoundError\)",
        ),
        (b"images/bad.jpg\tno image\n", r"line 5: its image cannot be decoded"),
        (b"images/0.jpg\t \n", "line 5: it has no caption"),
        (b"images/0.jpg\n", "line 5: 1 fields, but the header names 2"),
        (b"images/0.jpg\ta\tb\n", "line 5: 3 fields, but the header names 2"),
        (b"images/0.jpg\tno \xff UTF-8\n", "line 5: it is not UTF-8"),
        (b"http://x/y.jpg\tfar away\n", "line 5: http://x/y.jpg is an address: img2dataset downloads"),
        (b"images\ta folder\n", r"line 5: '.*images' cannot be read \(IsADirectoryError\)"),
        (b"a\x00b\tnul\n", r"line 5: .* cannot be read \(ValueError\)"),
        (b'"images/0.jpg"x\tquotes\n', "line 5: '\t' expected after '\"'"),
        (b'"images/0.jpg\tquote that never ends\n', "line 5: unexpected end of data"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, sentence: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/0.jpg").write_bytes(picture(0))
    (tmp_path / "images/bad.jpg").write_bytes(picture(0)[:200])
    good = b'images/0.jpg\t"good, over\ntwo lines"\nimages/0.jpg\tgood\n'  # the file's lines 2 and 3, and 4
    (tmp_path / "list.csv").write_bytes(b"filepath\ttitle\n" + good + line)
    with pytest.raises(HelipError, match=sentence):
        to_shards(tmp_path / "list.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 2


def test_bad_lines_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(picture(0))
    lines = ["filepath,title", "0.jpg,good", *[f"gone{n}.jpg,bad" for n in range(7)], "0.jpg,again"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    packed = to_shards(tmp_path / "list.csv", tmp_path / "out", on_error="skip")
    assert (packed.samples, packed.reasons, len(packed.shown)) == (2, {"no image file": 7}, 5)
    assert "list.csv, line 3: " in packed.sentences()[2]
    (tmp_path / "list.csv").write_text("\n".join([*lines[:1], *lines[2:4]]))
    with pytest.raises(HelipError, match=r"list\.csv gives no sample, the first: .*line 2"):
        to_shards(tmp_path / "list.csv", tmp_path / "none", on_error="skip")


def test_lists_with_other_columns(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.bmp")
    (tmp_path / "list.tsv").write_text(f"\ufeffsaying\tposter\nblack\t{tmp_path}/a.bmp\n")
    with pytest.raises(HelipError, match="has no known column for the images, only 'saying', 'poster'"):
        to_shards(tmp_path / "list.tsv", tmp_path / "out")
    to_shards(tmp_path / "list.tsv", tmp_path / "out", Options({"image": "poster", "caption": "saying"}))
    assert ShardIndex.build([tmp_path / "out/00000.tar"]).valid.all()
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("filepath\ttitle\n")
    for name, sentence in (("empty", "its first line must name the columns"), ("header", "gives no sample: it lists")):
        with pytest.raises(HelipError, match=sentence):
            to_shards(tmp_path / f"{name}.csv", tmp_path / name)
    with pytest.raises(HelipError, match="cannot be read"):
        to_shards(tmp_path / "gone.csv", tmp_path / "gone")
    options = Options({"image": "poster", "caption": "saying"})
    with pytest.raises(HelipError, match="out is there already"):
        to_shards(tmp_path / "list.tsv", tmp_path / "out", options)
    with pytest.raises(HelipError, match="--per-shard 0 must be at least 1"):
        to_shards(tmp_path / "list.tsv", tmp_path / "zero", options, per_shard=0)
    with pytest.raises(HelipError, match=r"a separator is one character such as ',' or a tab, not '\"'"):
        to_shards(tmp_path / "list.tsv", tmp_path / "quote", Options(separator='"'))
    with pytest.raises(HelipError, match=r"empty\.csv is there already"):
        to_shards(tmp_path / "list.tsv", tmp_path / "empty.csv", options)


def test_an_empty_folder_in_which_one_stands_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.jpg").write_bytes(picture(0))
    (tmp_path / "list.csv").write_text("filepath\ttitle\n0.jpg\tred\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    to_shards(tmp_path / "list.csv", Path())
    assert sorted(path.name for path in (tmp_path / "here").iterdir())[:2] == ["00000.tar", "00000_stats.json"]
