"""helip convert to-shards: every layout gives the captions and bytes of its source, also after a kill."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, url_of
from helip.formats.to_shards import Converted, to_shards
from tests.formats import layouts
from tests.formats.killed import kill_after
from tests.formats.layouts import CAPTIONS, comma_list, contents, expected, flickr8k, flickr30k, read_back, tokens
from tests.samples import picture

FIXTURES = Path(__file__).parent / "fixtures"

LAYOUTS = {
    layouts.comma_list: "a list with a header, comma-separated",
    layouts.tab_list: "a list with a header, tab-separated",
    layouts.flickr8k: "Flickr8k's or Flickr30k's captions.txt",
    layouts.flickr30k: "Flickr8k's or Flickr30k's results.csv",
    layouts.tokens: "Flickr8k's or Flickr30k's Flickr8k.token.txt",
    layouts.image_folder: "an image folder with metadata.jsonl",
    layouts.image_folder_csv: "an image folder with metadata.csv",
    layouts.hub_parquet: "a parquet table in 2 files",
    layouts.saved_arrow: "an Arrow table",
    layouts.plain_parquet: "a parquet table: images in 'jpg', captions in 'txt'",
    layouts.coco: "COCO captions with the images in",
    layouts.pairs: "a folder of pairs",
    layouts.packed_by_tar: "a compressed tar",
    layouts.packed_by_webdataset: "2 compressed tars",
}
SEVERAL = (flickr8k, flickr30k, tokens, layouts.coco)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_captions_and_bytes_are_those_of_the_source(tmp_path: Path, layout) -> None:
    source = layout(tmp_path / "in")
    done = to_shards(source, tmp_path / "out", per_shard=3)
    assert done.kind.startswith(LAYOUTS[layout])
    assert (done.samples, done.shards, done.reasons) == (7, 3, {})
    want = expected(layout in SEVERAL)
    if layout in (flickr30k, tokens):
        want = [([layouts.one_line(text) for text in texts], image) for texts, image in want]
    found = read_back(tmp_path / "out")
    assert sorted(found) == sorted(want) if layout is layouts.packed_by_tar else found == want
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
    # its parquet has a line for each dead link, which is never an error; its files have no trace of them
    assert done.reasons == ({"failed_to_download": 1, "failed_to_resize": 1} if layout == "parquet" else {})
    index = ShardIndex.build(sorted((tmp_path / "out").glob("*.tar")))
    assert url_of(SampleReader(index), 2) == "http://127.0.0.1:8017/3.jpg"


def test_the_datasets_library_reads_an_image_folder_likewise(tmp_path: Path) -> None:
    to_shards(layouts.image_folder(tmp_path / "in"), tmp_path / "out")
    theirs: Any = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "in"), cache_dir=str(tmp_path / "cache"))
    rows = theirs["train"].cast_column("image", datasets.Image(decode=False))
    assert read_back(tmp_path / "out") == [([row["text"]], Path(row["image"]["path"]).read_bytes()) for row in rows]


def test_caption_lists_of_the_datasets_library_are_kept(tmp_path: Path) -> None:
    source = layouts.caption_lists(tmp_path / "in")
    assert len(list(source.glob("*.arrow"))) == 2
    to_shards(source, tmp_path / "out")
    theirs: Any = datasets.load_from_disk(str(source))
    rows = theirs.cast_column("image", datasets.Image(decode=False))
    expected = [(row["captions"], row["image"]["bytes"]) for row in rows]
    assert read_back(tmp_path / "out") == expected
    assert next(captions for captions, _ in expected) == [CAPTIONS[0], f"again {CAPTIONS[0]}"]


def test_relative_paths_start_at_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = comma_list(tmp_path / "in")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert to_shards(Path("../in/list.csv"), Path("out")).samples == 7
    assert to_shards(path, Path("out2")).samples == 7


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
    partial = kill_after(3, KILLED, source, out)
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
