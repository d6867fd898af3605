"""A folder for each class holds the pictures that torchvision's ImageFolder finds.

Earlier versions silently dropped .tif and nested folders (12 of 30 pictures), kept a class without pictures in the
classifier, and took __MACOSX for a class.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from helip.errors import HelipError
from helip.evaluation.directories import open_set
from helip.evaluation.folders import FolderSet
from helip.evaluation.wnid_folders import ImageNetFolder

FORMATS = {".ppm": "PPM", ".pgm": "PPM", ".tif": "TIFF"}


def as_array(image: Image.Image):
    return np.asarray(image)


def put(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    image = Image.new("L" if suffix == ".pgm" else "RGB", (4, 4), shade if suffix == ".pgm" else (shade, 0, 0))
    image.save(path, FORMATS.get(suffix))


def mixed(folder: Path) -> Path:
    """Files with all suffixes of torchvision in three spellings, some nested, and files that are no pictures."""
    for number, suffix in enumerate(IMG_EXTENSIONS):
        put(folder / "cat" / f"a{number}{suffix}", number)
        put(folder / "cat" / "deep" / "er" / f"b{number}{suffix.upper()}", 20 + number)
        put(folder / "dog" / f"{number}" / f"c{suffix.title()}", 40 + number)
    put(folder / "Zebra" / "one.png")
    (folder / "cat" / "readme.txt").write_text("x")
    (folder / "cat" / "deep" / "moving.gif").write_bytes(b"GIF89a")
    (folder / "dog" / "LICENSE").write_text("x")
    return folder


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_torchvision(tmp_path: Path, seed: int) -> None:
    """On the mixed folders, and on folders drawn at random."""
    rng = np.random.default_rng(seed)
    folder = mixed(tmp_path / "set")
    for _ in range(40 * bool(seed)):
        parts = [f"class {rng.integers(4)}", *(f"sub.{n}" for n in rng.integers(0, 3, rng.integers(0, 3)))]
        name = f"{rng.integers(1000)}{rng.choice(['.jpg', '.TIFF', '.Webp', '.tif', '.PnG'])}"
        put(folder.joinpath(*parts, name), int(rng.integers(256)))
    for number in range(4 * bool(seed)):
        put(folder / f"class {number}" / "x.png")
    own, theirs = FolderSet(folder, as_array), ImageFolder(folder)  # type: ignore[arg-type]
    assert [str(path) for path in own.paths] == [path for path, _ in theirs.samples]
    assert own.labels.tolist() == theirs.targets and own.names == theirs.classes
    image, position = own[len(own) - 1]
    assert position == len(own) - 1 and np.array_equal(image, np.asarray(theirs[position][0]))


def test_what_is_passed_over_is_said_by_suffix(tmp_path: Path) -> None:
    own = FolderSet(mixed(tmp_path), as_array)  # type: ignore[arg-type]
    assert own.notes == [f"{tmp_path}: passed over 3 files: 1 .gif, 1 .txt, 1 without a suffix"]


def test_what_macos_and_notebooks_leave_is_no_class_and_no_picture(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    put(tmp_path / "cat" / ".ipynb_checkpoints" / "a-checkpoint.png")
    put(tmp_path / "cat" / "._a.png")
    put(tmp_path / "__MACOSX" / "cat" / "a.png")
    put(tmp_path / ".thumbs" / "a.png")
    own = FolderSet(tmp_path, as_array)  # type: ignore[arg-type]
    assert own.names == ["cat"] and [path.name for path in own.paths] == ["a.png"]
    assert own.notes[0].endswith("passed over 2 files: 2 hidden")
    assert own.notes[1].endswith("passed over the folders .thumbs, __MACOSX")


def test_a_class_without_a_picture_leaves_the_classifier(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    put(tmp_path / "dog" / "a.png")
    (tmp_path / "cow" / "nested").mkdir(parents=True)
    (tmp_path / "cow" / "a.gif").write_bytes(b"GIF89a")
    own = FolderSet(tmp_path, as_array)  # type: ignore[arg-type]
    assert own.names == ["cat", "dog"] and own.labels.tolist() == [0, 1]
    assert any("1 of 3 classes have no picture and are left out (cow)" in note for note in own.notes)
    # names are given in the order of the folders, cat, cow and dog
    named = FolderSet(tmp_path, as_array, ["Katze", "Kuh", "Hund"])  # type: ignore[arg-type]
    assert named.names == ["Katze", "Hund"] and named.labels.tolist() == [0, 1]


def test_pictures_beside_the_class_folders_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    put(tmp_path / "b.jpg")
    (tmp_path / "labels.csv").write_text("x")
    assert FolderSet(tmp_path, as_array).notes == [  # type: ignore[arg-type]
        f"{tmp_path}: passed over 1 files: 1 .jpg beside the class folders"
    ]


def test_splits_do_not_become_classes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        put(tmp_path / split / "cat" / "a.png")
    with pytest.raises(HelipError, match="has the splits train, val, and no test: name one, by `split:`"):
        open_set(str(tmp_path), "test", as_array)  # type: ignore[arg-type]


def test_links_to_folders_count(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(FolderSet(tmp_path / "set", as_array)) == len(ImageFolder(tmp_path / "set")) == 1  # type: ignore[arg-type]


def test_imagenets_folders_count_alike(tmp_path: Path) -> None:
    put(tmp_path / "n01440764" / "a.JPEG")
    put(tmp_path / "n01443537" / "nested" / "b.TIF")
    (tmp_path / "n04404412").mkdir()
    put(tmp_path / "__MACOSX" / "c.png")
    own = ImageNetFolder(tmp_path, as_array)  # type: ignore[arg-type]
    assert own.names == ["tench", "goldfish"] and own.labels.tolist() == [0, 1]
    assert "1 of 3 classes have no picture and are left out (n04404412)" in own.notes[-1]
