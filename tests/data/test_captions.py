"""Missing captions: named fields that no row has, words that pandas writes, rows without a source."""

import json
from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.datasets import incomplete
from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.data.captions import look_at_captions
from helip.data.reader import CaptionRule, SampleReader, Unreadable, content_digest
from helip.embedding.ensure import left_out_rows
from helip.errors import HelipError
from tests.samples import sample, write_tar


def index_of(folder: Path, *captions: bytes | None, **more: bytes | None) -> ShardIndex:
    entries = [(f"{n:03d}", sample(n, txt=caption, **more)) for n, caption in enumerate(captions)]
    return ShardIndex.build([write_tar(folder / "0.tar", entries)])


def test_leftovers_are_counted_at_the_scan(tmp_path: Path) -> None:
    texts = [b"nan", b"NaN\n", b"None", b"null", b" \t\n", b"\xef\xbb\xbfnan", b"", b"naan", b"none of them", b"a dog"]
    index = index_of(tmp_path, *texts)
    assert index.leftovers == {"nan": 3, "none": 1, "null": 1, "blank": 2}
    said = " ".join(incomplete(index))
    assert "3 nan" in said and "2 blank" in said and "data.drop_captions" in said
    index.save(tmp_path / "index")
    assert ShardIndex.load(tmp_path / "index").leftovers == index.leftovers


@pytest.mark.parametrize(
    ("left_out", "lost"),
    [(("nan",), [0, 1]), ((), []), (("none", "NULL"), [2, 3]), (("nan", "none", "null"), [0, 1, 2, 3])],
)
def test_what_drop_captions_lists_is_left_out(tmp_path: Path, left_out: tuple[str, ...], lost: list[int]) -> None:
    reader = SampleReader(index_of(tmp_path, b"nan", b"NaN", b"none", b"null", b"nanny"), CaptionRule("txt", left_out))
    found = []
    for row in range(5):
        try:
            reader.read(row)
        except Unreadable as error:
            assert "data.drop_captions leaves out" in str(error)
            found.append(row)
    assert found == lost


def test_of_several_captions_the_others_stay(tmp_path: Path) -> None:
    raw = json.dumps({"captions": ["nan", "a dog", None, "NAN"], "alt": "nan"}).encode()
    index = index_of(tmp_path, b"nan", json=raw)
    assert SampleReader(index, "captions").captions(0) == ("a dog",)
    assert SampleReader(index, {"txt": 0.5, "captions": 0.5}).captions(0) == ("a dog",)
    with pytest.raises(Unreadable, match="'nan'"):
        SampleReader(index, {"txt": 0.5, "alt": 0.5}).captions(0)


def test_rows_embedded_before_there_was_a_rule_are_found(tmp_path: Path) -> None:
    store = EmbeddingStore.create(tmp_path / "store", 4, 2, 2, {})
    content = np.array([[n, content_digest(text)] for n, text in enumerate(["nan", "a", "NaN", "none"])])
    store.write(np.arange(4), np.ones((4, 2), np.float32), np.ones((4, 2), np.float32), content)
    everything = np.ones(4, bool)
    assert left_out_rows(store, CaptionRule(), everything) == [0, 2]
    assert left_out_rows(store, CaptionRule("txt", ()), everything) == []
    assert left_out_rows(store, CaptionRule("txt", ("None",)), np.arange(4) < 3) == []


@pytest.mark.parametrize(
    ("caption", "sentence"),
    [
        (
            {"txt": 0.5, "capitons": 0.5},
            r"none of 3 rows looked at has a field 'capitons' in its \.json, did you mean 'captions'",
        ),
        ("capiton", "did you mean 'caption'.; there are txt, "),
        ("alt", "a field 'alt' in its .json; there are txt, caption, captions, url"),
        ("empty", "none of 3 rows"),
    ],
)
def test_a_field_that_no_row_has_is_refused(tmp_path: Path, caption, sentence: str) -> None:
    raw = json.dumps({"caption": "c", "captions": ["c"], "url": "u", "empty": ""}).encode()
    index = index_of(tmp_path, b"a", b"b", b"c", json=raw)
    with pytest.raises(HelipError, match=sentence):
        look_at_captions(index, CaptionRule(caption))


def test_no_caption_file_at_all_names_the_fields(tmp_path: Path) -> None:
    with pytest.raises(
        HelipError, match=r"data\.caption=txt: none of 2 rows .* \(\.txt\); there are caption, captions, url"
    ):
        look_at_captions(index_of(tmp_path, None, None), CaptionRule("txt"))


def test_rows_that_lack_a_source_are_counted(tmp_path: Path) -> None:
    entries = [(f"{n:04d}", sample(n, json=b'{"alt": "x"}' if n % 4 else b"{}")) for n in range(8)]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", entries)])
    rule = CaptionRule({"txt": 0.5, "alt": 0.5})
    assert look_at_captions(index, rule) == ["data.caption: 2 of 8 rows lack alt"]
    assert look_at_captions(index, CaptionRule("txt")) == []
