"""helip convert to-shards: every layout gives the captions and bytes of its source; bad pairs are counted by reason."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from webdataset.writer import ShardWriter

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, url_of
from helip.errors import HelipError
from helip.formats.sources import Options, recognise
from helip.formats.to_shards import Converted, columns, to_shards
from tests.samples import picture, sample, write_tar

FIXTURES = Path(__file__).parent / "fixtures"
CAPTIONS = ["plain", 'comma, "quoted"', "ünïcode 🧯", "two\nlines", "=SUM(A1)", "1984", "x" * 5000]
Pairs = list[tuple[list[str], bytes]]


def captions_of(number: int) -> list[str]:
    return [CAPTIONS[number], *(f"again {n} of {number}" for n in range(number % 3))]


def expected(several: bool = False) -> Pairs:
    return [(captions_of(n)[: None if several else 1], picture(n)) for n in range(len(CAPTIONS))]


def photos(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(CAPTIONS)):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    return [f"{number}.jpg" for number in range(len(CAPTIONS))]


def write_csv(path: Path, lines: list[list[str]], separator: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(lines)
    return path


def comma_list(root: Path) -> Path:
    names = photos(root / "images")
    lines = [[f"images/{name}", CAPTIONS[n]] for n, name in enumerate(names)]
    return write_csv(root / "list.csv", [["filepath", "title"], *lines])


def tab_list(root: Path) -> Path:
    names = photos(root / "images")
    lines = [[f"images/{name}", CAPTIONS[n]] for n, name in enumerate(names)]
    return write_csv(root / "list.tsv", [["image", "caption"], *lines], "\t")


def flickr8k(root: Path) -> Path:
    lines = [[name, text] for n, name in enumerate(photos(root / "Images")) for text in captions_of(n)]
    return write_csv(root / "captions.txt", [["image", "caption"], *lines]).parent


def flickr30k(root: Path) -> Path:
    """As Kaggle distributes it: a space behind each separator, no quoting."""
    lines = ["image_name| comment_number| comment"]
    for n, name in enumerate(photos(root / "flickr30k_images")):
        lines += [f"{name}| {m}| {text}" for m, text in enumerate(one_line(text) for text in captions_of(n))]
    (root / "results.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "results.csv"


def tokens(root: Path) -> Path:
    lines = [
        f"{name}#{m}\t{one_line(text)}"
        for n, name in enumerate(photos(root / "Flicker8k_Dataset"))
        for m, text in enumerate(captions_of(n))
    ]
    (root / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "Flickr8k.token.txt"


def one_line(text: str) -> str:
    return text.replace("\n", " ")


def image_folder(root: Path) -> Path:
    lines = [{"file_name": name, "text": CAPTIONS[n]} for n, name in enumerate(photos(root))]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


def image_folder_csv(root: Path) -> Path:
    write_csv(
        root / "metadata.csv", [["file_name", "caption"], *([n, CAPTIONS[i]] for i, n in enumerate(photos(root)))]
    )
    return root


def data_set(root: Path) -> datasets.Dataset:
    names = photos(root / "photos")
    content = {"image": [str(root / "photos" / name) for name in names], "caption": CAPTIONS, "n": list(range(7))}
    return datasets.Dataset.from_dict(content).cast_column("image", datasets.Image())


def hub_parquet(root: Path) -> Path:
    """With the bytes inside, as push_to_hub writes it."""
    (root / "data").mkdir(parents=True)
    for part, numbers in enumerate((range(4), range(4, 7))):
        images = [{"bytes": picture(n), "path": None} for n in numbers]
        rows = datasets.Dataset.from_dict({"image": images, "caption": [CAPTIONS[n] for n in numbers]})
        path = root / f"data/train-0000{part}-of-00002.parquet"
        rows.cast_column("image", datasets.Image()).to_parquet(path)
    return root


def saved_arrow(root: Path) -> Path:
    """With paths inside, as save_to_disk leaves them."""
    data_set(root / "of").save_to_disk(root / "saved")
    return root / "saved"


def caption_lists(root: Path) -> Path:
    """Images as {bytes, path} and a list of captions for each, in two arrow files of one split."""
    images = [{"bytes": picture(n), "path": f"{n}.png"} for n in range(7)]
    features = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
    content = {"image": images, "captions": [[text, f"again {text}"] for text in CAPTIONS]}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(root / "saved", num_shards=2)
    return root / "saved"


def plain_parquet(root: Path) -> Path:
    root.mkdir(parents=True)
    table = {"jpg": [picture(n) for n in range(7)], "txt": CAPTIONS, "score": np.arange(7.0)}
    pq.write_table(pa.table(table), root / "t.parquet", row_group_size=3)
    return root / "t.parquet"


def coco(root: Path) -> Path:
    """The layout of cocodataset.org: images in another order than annotations."""
    names = photos(root / "train2017")
    content = {
        "info": {},
        "licenses": [],
        "images": [{"id": 100 + n, "file_name": name, "coco_url": f"http://c/{n}"} for n, name in enumerate(names)],
        "annotations": [
            {"id": 10 * n + m, "image_id": 100 + n, "caption": text}
            for n in reversed(range(7))
            for m, text in enumerate(captions_of(n))
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations/captions_train2017.json").write_text(json.dumps(content))
    return root / "annotations/captions_train2017.json"


def pairs(root: Path) -> Path:
    for n, name in enumerate(photos(root)):
        (root / name).with_suffix(".txt").write_text(CAPTIONS[n])
    return root


def packed_by_tar(root: Path) -> Path:
    """GNU tar as people call it: members in the order of the disk, not of the names."""
    pairs(root / "in")
    subprocess.run(["tar", "czf", str(root / "all.tar.gz"), "-C", str(root / "in"), "."], check=True)
    return root / "all.tar.gz"


def packed_by_webdataset(root: Path) -> Path:
    root.mkdir(parents=True)
    with ShardWriter(f"{root}/%03d.tar.gz", maxcount=4, verbose=0) as shards:
        for n, caption in enumerate(CAPTIONS):
            shards.write({"__key__": f"k{n}", "jpg": picture(n), "txt": caption})
    return root


LAYOUTS = {
    comma_list: "a list with a header, comma-separated",
    tab_list: "a list with a header, tab-separated",
    flickr8k: "Flickr8k's or Flickr30k's captions.txt",
    flickr30k: "Flickr8k's or Flickr30k's results.csv",
    tokens: "Flickr8k's or Flickr30k's Flickr8k.token.txt",
    image_folder: "an image folder with metadata.jsonl",
    image_folder_csv: "an image folder with metadata.csv",
    hub_parquet: "a parquet table in 2 files",
    saved_arrow: "an Arrow table",
    plain_parquet: "a parquet table: images in 'jpg', captions in 'txt'",
    coco: "COCO captions with the images in",
    pairs: "a folder of pairs",
    packed_by_tar: "a compressed tar",
    packed_by_webdataset: "2 compressed tars",
}
SEVERAL = (flickr8k, flickr30k, tokens, coco)


def read_back(out: Path) -> Pairs:
    index = ShardIndex.build(sorted(out.glob("*.tar")), on_error="fail")
    assert index.valid.all()
    reader = SampleReader(index)
    found = []
    for row in range(len(index)):
        more = reader.metadata(row).get("captions", [])
        assert reader.captions(row) == tuple(more[:1] or [reader.metadata(row)["caption"]])
        found.append((more or list(reader.captions(row)), reader.image_bytes(row)))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_captions_and_bytes_are_those_of_the_source(tmp_path: Path, layout) -> None:
    source = layout(tmp_path / "in")
    done = to_shards(source, tmp_path / "out", per_shard=3)
    assert done.kind.startswith(LAYOUTS[layout])
    assert (done.samples, done.shards, done.reasons) == (7, 3, {})
    want = expected(layout in SEVERAL)
    if layout in (flickr30k, tokens):
        want = [([one_line(text) for text in texts], image) for texts, image in want]
    found = read_back(tmp_path / "out")
    assert sorted(found) == sorted(want) if layout is packed_by_tar else found == want
    to_shards(source, tmp_path / "again", per_shard=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


def test_processes_change_no_byte(tmp_path: Path) -> None:
    source = comma_list(tmp_path / "in")
    to_shards(source, tmp_path / "one", per_shard=1)
    to_shards(source, tmp_path / "two", per_shard=1, processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("layout", ["files", "parquet", "webdataset"])
def test_what_img2dataset_wrote(tmp_path: Path, layout: str) -> None:
    """Six links, the third dead, the fifth no image (fixtures/README.md)."""
    source = FIXTURES / f"img2dataset_{layout}"
    done = to_shards(source, tmp_path / "out", per_shard=4)
    texts = ["a red, green pattern", "two\\nlines of it", "squares — ünïcode", 'says "hello"']
    assert read_back(tmp_path / "out") == [([t], picture(n, 32)) for t, n in zip(texts, (0, 1, 3, 5), strict=True)]
    assert ("shards already" in done.kind) == (layout == "webdataset")
    # its parquet keeps a line for each dead link, which is no error whatever --on-error says; its files leave none
    assert done.reasons == ({"failed_to_download": 1, "failed_to_resize": 1} if layout == "parquet" else {})
    index = ShardIndex.build(sorted((tmp_path / "out").glob("*.tar")))
    assert url_of(SampleReader(index), 2) == "http://127.0.0.1:8017/3.jpg"


def test_the_datasets_library_reads_an_image_folder_likewise(tmp_path: Path) -> None:
    to_shards(image_folder(tmp_path / "in"), tmp_path / "out")
    theirs: Any = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "in"), cache_dir=str(tmp_path / "cache"))
    rows = theirs["train"].cast_column("image", datasets.Image(decode=False))
    assert read_back(tmp_path / "out") == [([row["text"]], Path(row["image"]["path"]).read_bytes()) for row in rows]


def test_caption_lists_of_the_datasets_library_are_kept(tmp_path: Path) -> None:
    source = caption_lists(tmp_path / "in")
    assert len(list(source.glob("*.arrow"))) == 2
    to_shards(source, tmp_path / "out")
    theirs: Any = datasets.load_from_disk(str(source))
    rows = theirs.cast_column("image", datasets.Image(decode=False))
    expected = [(row["captions"], row["image"]["bytes"]) for row in rows]
    assert read_back(tmp_path / "out") == expected
    assert next(captions for captions, _ in expected) == [CAPTIONS[0], f"again {CAPTIONS[0]}"]


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
    """Four lines, of which csv's quoting makes two: a warning with the number, an error, or all four with none."""
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
    with pytest.raises(HelipError, match=r"no column for the images .*'bild', 'text_de', 'split': give --columns"):
        recognise(path, Options())
    options = Options(columns("image=bild,caption=text_de"), images=tmp_path / "photos")
    assert to_shards(path, tmp_path / "out", options).samples == 1
    assert SampleReader(ShardIndex.build([tmp_path / "out/00000.tar"]), "split").captions(0) == ("train",)
    with pytest.raises(HelipError, match="--columns image=nope: there is no such column, only 'bild'"):
        recognise(path, Options({"image": "nope"}))


def test_relative_paths_start_at_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = comma_list(tmp_path / "in")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert to_shards(Path("../in/list.csv"), Path("out")).samples == 7
    assert to_shards(path, Path("out2")).samples == 7


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
        ("only", "is none of the layouts that are known"),
        ("gone", "there is no such file or folder"),
        ("splits", "holds the splits test, train: convert each into a folder of its own"),
        ("folders", r"metadata of several splits \(test, train\)"),
        ("instances.json", r"has no captions: give captions_\*\.json"),
        ("cut.tar.gz", "is damaged .*fetch it again"),
        ("x.parquet", "cannot be read as a table"),
    ):
        with pytest.raises(HelipError, match=sentence):
            to_shards(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()


KILLED = """
import sys, time
from pathlib import Path
import helip.formats.packing as packing
from helip.formats.to_shards import to_shards
before = packing._members
def slowly(key, item):
    time.sleep(0.1)
    return before(key, item)
packing._members = slowly
to_shards(Path(sys.argv[1]), Path(sys.argv[2]), per_shard=1)
"""


def test_killed_and_continued_gives_the_same_bytes(tmp_path: Path) -> None:
    source, out = flickr8k(tmp_path / "in"), tmp_path / "out"
    to_shards(source, tmp_path / "whole", per_shard=1)
    partial = tmp_path / ".out.partial"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(source), str(out)])
    until = time.monotonic() + 240
    while len(list(partial.glob("*_stats.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 3 <= len(list(partial.glob("*_stats.json"))) < 7 and not out.exists()
    there = {path: path.stat().st_mtime_ns for path in partial.glob("*.tar")}
    done = to_shards(source, out, per_shard=1)
    assert done.samples == 7 and contents(out) == contents(tmp_path / "whole") and not partial.exists()
    kept = [(out / path.name).stat().st_mtime_ns == time for path, time in there.items()]
    assert sum(kept) >= 3


def test_what_was_begun_from_another_list_is_not_gone_on_with(tmp_path: Path) -> None:
    source = comma_list(tmp_path / "in")
    partial = tmp_path / ".out.partial"
    partial.mkdir()
    (partial / "begun.json").write_text("{}")
    (partial / "00000_stats.json").write_text(json.dumps({"successes": 99, "status_dict": {}, "left_out": []}))
    done: Converted = to_shards(source, tmp_path / "out")
    assert done.samples == 7 and len(read_back(tmp_path / "out")) == 7
