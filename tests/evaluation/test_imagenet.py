"""Folders of wnids become pictures, labels and class names."""

import open_clip
import pytest
import torch
from PIL import Image

from helip.errors import HelipError
from helip.evaluation.imagenet import ImageNet
from helip.evaluation.suite import build_evaluators
from helip.evaluation.wnid_folders import TEMPLATES, ImageNetFolder, is_validation_set, wnids

# In open_clip's list: 0 tench, 1 goldfish, 851 television.
TENCH, GOLDFISH, TELEVISION = "n01440764", "n01443537", "n04404412"


def to_tensor(image):
    assert image.mode == "RGB"
    return torch.tensor(image.getpixel((0, 0)))


def make(folder, counts, color: str | int = "red", suffix=".JPEG", mode="RGB"):
    for wnid, count in counts.items():
        (folder / wnid).mkdir(parents=True)
        for i in range(count):
            Image.new(mode, (8, 8), color).save(folder / wnid / f"{wnid}_{i}{suffix}")


def test_the_order_of_wnids_is_that_of_the_class_names():
    order = wnids()
    assert len(order) == len(open_clip.IMAGENET_CLASSNAMES) == 1000 and len(TEMPLATES) == 80
    for wnid, index, name in ((TENCH, 0, "tench"), (GOLDFISH, 1, "goldfish"), (TELEVISION, 851, "television")):
        assert order[index] == wnid and open_clip.IMAGENET_CLASSNAMES[index] == name


def test_a_subset_of_classes(tmp_path):
    make(tmp_path, {TELEVISION: 2, TENCH: 1}, color=7, suffix=".png", mode="L")
    (tmp_path / "LOC_val_solution.csv").write_text("beside the folders")
    (tmp_path / ".cache").mkdir()
    (tmp_path / TENCH / "notes.txt").write_text("no picture")
    pictures = ImageNetFolder(tmp_path, to_tensor)
    assert pictures.names == ["tench", "television"] and pictures.labels.tolist() == [0, 1, 1]
    assert len(pictures) == 3
    image, position = pictures[2]
    assert image.tolist() == [7, 7, 7] and position == 2


def test_only_the_validation_set_is_named_so(tmp_path, monkeypatch):
    monkeypatch.setattr("helip.evaluation.wnid_folders.wnids", lambda: [TENCH, GOLDFISH])
    monkeypatch.setattr("helip.evaluation.wnid_folders.PER_CLASS", 2)
    make(tmp_path, {TENCH: 2})
    assert not is_validation_set(tmp_path)  # such as ImageNet-R
    make(tmp_path, {GOLDFISH: 2})
    assert is_validation_set(tmp_path) and ImageNet("x", str(tmp_path)).benchmark == "imagenet1k"
    (tmp_path / TENCH / "more.png").write_bytes(b"")
    assert not is_validation_set(tmp_path)  # such as ImageNet-Sketch
    assert not is_validation_set(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({}, "holds no folders"),
        ({TENCH: 0}, "No picture in the class folders"),
        ({TENCH: 1, "tench": 1}, "tench is not named by a WordNet id of ImageNet-1k"),
        ({"train": 0, "val": 0}, "did you mean .*/val"),
    ],
)
def test_wrong_folders_are_one_sentence(tmp_path, folders, words):
    make(tmp_path, folders)
    with pytest.raises(HelipError, match=words) as error:
        ImageNetFolder(tmp_path, to_tensor)
    assert "\n" not in str(error.value)


def test_a_missing_directory_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(HelipError, match=r"evaluation\.imagenet=.*nowhere is no directory"):
        build_evaluators([], imagenet=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("kind", ["garbage", "bomb"])
def test_a_picture_that_cannot_be_decoded_is_named(tmp_path, monkeypatch, kind):
    make(tmp_path, {TENCH: 1})
    if kind == "garbage":
        (tmp_path / TENCH / f"{TENCH}_0.JPEG").write_bytes(b"no jpeg")
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # the picture has 64
    with pytest.raises(HelipError, match=f"{TENCH}_0.JPEG is unusable: its image"):
        ImageNetFolder(tmp_path, to_tensor)[0]
