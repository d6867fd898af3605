"""A wrong member of an evaluation set is refused, with shard, key and file in one sentence."""

from pathlib import Path

import pytest

from helip.errors import HelipError
from helip.evaluation.wds import WdsSet
from tests.evaluation.wds import encoded, write_classification, write_retrieval, write_split


def as_is(image):
    return image


def classification(folder: Path, label: bytes) -> Path:
    write_classification(folder, ["cat", "dog"], ["{c}"], {"test": [0]})
    write_split(folder, "test", [{"png": encoded(0, "png"), "cls": b"1"}, {"png": encoded(1, "png"), "cls": label}], 9)
    return folder


@pytest.mark.parametrize("label", [b"cat", b"0.0", b"", b"-1", b"1e0", b"\xe9t\xe9", b"1 2", b"\x1b[31m1", b"\xb2"])
def test_a_label_that_is_no_number(tmp_path: Path, label: bytes) -> None:
    with pytest.raises(HelipError, match=r"s0000001\.cls in .*test/0\.tar must hold the number of a class") as found:
        WdsSet(classification(tmp_path, label), "test", as_is)
    assert "\n" not in str(found.value) and "\x1b" not in str(found.value)


@pytest.mark.parametrize("label", [b"1", b" 1\n", b"001"])
def test_a_label_that_is_one(tmp_path: Path, label: bytes) -> None:
    assert WdsSet(classification(tmp_path, label), "test", as_is).labels.tolist() == [1, 1]


@pytest.mark.parametrize("file", ["classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_names_and_templates_of_another_encoding(tmp_path: Path, file: str, encoding: str) -> None:
    folder = classification(tmp_path, b"1")
    (folder / file).write_bytes("{c} Hund\n{c} Bär\n".encode(encoding))
    with pytest.raises(HelipError, match=rf"{file} is not UTF-8 in line {2 if encoding == 'latin-1' else 1}: convert"):
        WdsSet(folder, "test", as_is)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        (b"", "holds no caption"),
        (b"\n \n", "holds no caption"),
        (b"\xef\xbb\xbf\n", "holds no caption"),
        ("ein Bär".encode("latin-1"), "is not UTF-8 in line 1"),
        ("gut\nein Bär".encode("latin-1"), "is not UTF-8 in line 2"),
    ],
)
def test_a_picture_without_a_caption(tmp_path: Path, caption: bytes, words: str) -> None:
    write_retrieval(tmp_path, [["one"]])
    write_split(
        tmp_path, "test", [{"jpg": encoded(0, "jpg"), "txt": b"ok"}, {"jpg": encoded(1, "jpg"), "txt": caption}], 9
    )
    with pytest.raises(HelipError, match=rf"s0000001\.txt in .*test/0\.tar {words}"):
        WdsSet(tmp_path, "test", as_is)


def test_a_picture_without_a_caption_file(tmp_path: Path) -> None:
    write_retrieval(tmp_path, [["one"]])
    write_split(tmp_path, "test", [{"jpg": encoded(0, "jpg"), "json": b"{}"}], 9)
    with pytest.raises(HelipError, match=r"s0000000 in .*0\.tar has no \.txt beside \.jpg, \.json"):
        WdsSet(tmp_path, "test", as_is)


def test_a_caption_without_a_picture(tmp_path: Path) -> None:
    write_retrieval(tmp_path, [["one"]])
    write_split(tmp_path, "test", [{"txt": b"one", "tif": b""}], 9)
    with pytest.raises(HelipError, match=r"s0000000 in .*0\.tar has no picture \(webp, png, jpg, jpeg\) beside"):
        WdsSet(tmp_path, "test", as_is)


def test_blank_lines_are_no_captions_and_order_does_not_matter(tmp_path: Path) -> None:
    write_retrieval(tmp_path, [["one"]])
    both = {"jpg": encoded(0, "jpg"), "txt": b"one\r\n\r\ntwo\n"}
    write_split(tmp_path, "test", [both, dict(reversed(both.items()))], 9)
    assert WdsSet(tmp_path, "test", as_is).captions == [("one", "two"), ("one", "two")]
