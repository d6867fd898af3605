"""Directories become pictures, labels, captions and class names, without conversion."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from helip.errors import HelipError
from helip.evaluation.directories import benchmark_name, open_set
from helip.evaluation.embed import Absent
from helip.evaluation.folders import FolderSet
from helip.evaluation.pictures import require
from helip.evaluation.probe import DirectoryProbe
from helip.evaluation.retrieval import DirectoryRetrieval
from helip.evaluation.wds import WdsSet
from helip.evaluation.wnid_folders import ImageNetFolder
from helip.evaluation.zeroshot import DirectoryZeroShot
from tests.evaluation.wds import encoded, write_classification, write_retrieval, write_split


def as_array(image):
    return torch.from_numpy(np.array(image))


@pytest.mark.parametrize("extension", ["webp", "png"])
def test_a_classification_directory_is_read_as_it_is(tmp_path, extension):
    test = [n % 3 for n in range(120)]  # eleven shards: 0.tar, 1.tar, 10.tar, 2.tar as text
    folder = write_classification(tmp_path, ["cat", "red fox", "owl"], ["a {c}.", "the {c}"], {"test": test}, extension)
    (folder / "test" / "notes.tar").write_bytes(b"not one of the shards")
    pictures = WdsSet(folder, "test", as_array)
    assert pictures.names == ["cat", "red fox", "owl"] and pictures.labels.tolist() == test and len(pictures) == 120
    assert [one("owl") for one in pictures.templates or ()] == ["a owl.", "the owl"]  # type: ignore[operator]
    for number in (0, 10, 11, 119):  # position and picture agree across the shards
        image, position = pictures[number]
        expected = np.asarray(Image.open(io.BytesIO(encoded(number, extension))).convert("RGB"))
        assert position == number and np.array_equal(image.numpy(), expected)


def test_a_retrieval_directory_has_a_caption_a_line(tmp_path):
    captions = [["one", "two"], ["three"], ["four", "five", "six"], ["seven"]]
    marked = [["\ufeffone", "two"], *captions[1:]]  # a byte-order mark is no part of a caption
    pictures = WdsSet(write_retrieval(tmp_path, marked), "test", as_array)
    assert pictures.captions == [tuple(one) for one in captions] and pictures.names is None


def test_shards_are_found_without_their_count(tmp_path):
    folder = write_classification(tmp_path, ["a", "b"], ["{c}"], {"test": [0, 1] * 60})
    (folder / "test" / "nshards.txt").unlink()
    assert WdsSet(folder, "test", as_array).labels.tolist() == [0, 1] * 60


def test_what_is_missing_or_damaged_is_one_sentence(tmp_path):
    with pytest.raises(Absent, match=r"hf download clip-benchmark/wds_vtab-dtd --repo-type dataset"):
        require(tmp_path / "wds_vtab-dtd")
    folder = write_classification(tmp_path / "wds_x", ["a", "b"], ["{c}"], {"test": [0, 1] * 9})
    with pytest.raises(Absent, match=r"has no split train, but test: fetch them from .*/wds_x"):
        WdsSet(folder, "train", as_array)
    (folder / "test" / "1.tar").rename(folder / "test" / "away")
    with pytest.raises(Absent, match=r"lacks 1 of its 2 shards \(1.tar\)"):
        WdsSet(folder, "test", as_array)
    (folder / "test" / "1.tar").write_bytes((folder / "test" / "away").read_bytes()[:2000])
    with pytest.raises(HelipError, match=r"1.tar is damaged after"):
        WdsSet(folder, "test", as_array)
    write_split(folder, "bare", [{"png": encoded(0, "png")}], 1)
    with pytest.raises(HelipError, match=r"s0000000 in .*0.tar has no .cls beside .png: fetch"):
        WdsSet(folder, "bare", as_array)
    (folder / "dataset_type.txt").write_text("multilabel\n")
    with pytest.raises(HelipError, match="is a multilabel set"):
        WdsSet(folder, "test", as_array)


def test_folders_are_classes_in_sorted_order(tmp_path):
    for name, count in (("red_fox", 2), ("cat", 1), (".hidden", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.png").write_bytes(encoded(number, "png"))
    pictures = open_set(str(tmp_path), "test", as_array)
    assert isinstance(pictures, FolderSet) and pictures.names == ["cat", "red fox"]
    assert pictures.labels.tolist() == [0, 1, 1]
    assert open_set(str(tmp_path), "test", as_array, ["kitten", "fox"]).names == ["kitten", "fox"]
    with pytest.raises(HelipError, match="3 class names for the 2 folders"):
        open_set(str(tmp_path), "test", as_array, ["a", "b", "c"])


def test_splits_are_subfolders_and_wnids_get_their_names(tmp_path):
    (tmp_path / "val" / "n01440764").mkdir(parents=True)
    (tmp_path / "val" / "n01440764" / "a.png").write_bytes(encoded(0, "png"))
    pictures = open_set(str(tmp_path), "val", as_array)
    assert isinstance(pictures, ImageNetFolder) and pictures.names == ["tench"] and len(pictures.templates or ()) == 80


def class_folders(folder):
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.png").write_bytes(encoded(0, "png"))


def test_class_folders_without_splits_are_the_test_set_and_no_other(tmp_path):
    class_folders(tmp_path)
    assert open_set(str(tmp_path), "test", as_array).names == ["cat", "dog"]
    for split, error in (("train", Absent), ("val", HelipError)):
        with pytest.raises(HelipError, match=f"{tmp_path} has no folder {split} with class folders in it") as found:
            open_set(str(tmp_path), split, as_array)
        assert type(found.value) is error
    class_folders(tmp_path / "val")
    assert len(open_set(str(tmp_path), "val", as_array)) == 2


def test_names_of_a_wds_directory_can_be_given(tmp_path):
    folder = write_classification(tmp_path, ["cat", "dog"], ["{c}", ""], {"test": [0, 1]})
    pictures = open_set(str(folder), "test", as_array, ["Katze", "Hund"])
    assert pictures.names == ["Katze", "Hund"] and len(pictures.templates or ()) == 1  # a blank line is no prompt
    with pytest.raises(HelipError, match="3 class names for the 2 classes"):
        open_set(str(folder), "test", as_array, ["a", "b", "c"])
    (folder / "classnames.txt").unlink()
    assert open_set(str(folder), "test", as_array, ["Katze", "Hund"]).names == ["Katze", "Hund"]


def test_only_the_test_split_has_the_name_of_the_benchmark():
    for make in (DirectoryZeroShot, DirectoryRetrieval, DirectoryProbe):
        assert make("x", "/data/wds_vtab-dtd").benchmark == "wds/vtab/dtd"
        assert make("x", "/data/wds_vtab-dtd", "validation").benchmark is None


def test_names_of_clip_benchmark():
    names = ("wds_vtab-cifar10", "wds_imagenet-a", "wds_fgvc_aircraft", "mine")
    expected = ["wds/vtab/cifar10", "wds/imagenet-a", "wds/fgvc_aircraft", "mine"]
    assert [benchmark_name(f"/data/{name}") for name in names] == expected
