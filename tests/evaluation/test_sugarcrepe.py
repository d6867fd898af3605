"""SugarCrepe's format, with pictures and similarities made by hand."""

import json

import numpy as np
import pytest
import torch

from helip.errors import HelipError
from helip.evaluation.embed import Absent
from helip.evaluation.samples import values_of
from helip.evaluation.sugarcrepe import FILES, prefers, read_pairs
from helip.evaluation.suite import build_evaluators
from tests.samples import picture

# numbers in the published files have gaps
PAIRS = {
    "0": {"filename": "b.jpg", "caption": "near b", "negative_caption": "far"},
    "2": {"filename": "a.jpg", "caption": "near a", "negative_caption": "near a"},  # a tie is a miss
    "3": {"filename": "a.jpg", "caption": "far", "negative_caption": "near a"},
    "9": {"filename": "a.jpg", "caption": "near a", "negative_caption": "near b"},
}
TEXT = {"near a": (1.0, 0.0, 0.0), "near b": (0.0, 1.0, 0.0), "far": (0.0, 0.0, 1.0)}


class Fixed:
    """a.jpg points along the first axis, b.jpg along the second."""

    device = torch.device("cpu")
    transform = staticmethod(lambda image: torch.zeros(1))

    def images(self, dataset):
        assert [path.name for path in dataset.paths] == ["a.jpg", "b.jpg"]  # each once
        return np.eye(3)[:2]

    def texts(self, captions):
        return np.array([TEXT[caption] for caption in captions])


@pytest.fixture
def line(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.jpg").write_bytes(picture(1))
    for name, pairs in (("swap_att", PAIRS), ("add_obj", {"5": PAIRS["0"]})):
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps(pairs))
    return {"kind": "sugarcrepe", "path": str(tmp_path / "data"), "images": str(tmp_path / "images")}


def test_accuracy_per_file_and_ties_against_the_model(line):
    (evaluator,) = build_evaluators([line])
    got = evaluator.run(Fixed())  # type: ignore[arg-type]
    # of the four pairs the first and the last are right
    assert values_of(got) == {"compositional_add_obj": 1.0, "compositional_swap_att": 2 / 4}
    assert got["compositional_swap_att"].values.tolist() == [True, False, False, True]


def test_nan_and_a_collapsed_model_prefer_nothing():
    for value in (np.nan, 0.5):
        same = np.full((3, 4), value)
        assert not prefers(same, same, same).any()


def test_what_is_missing_says_how_to_get_it(line, tmp_path):
    (tmp_path / "images" / "b.jpg").unlink()
    with pytest.raises(Absent, match=r"1 of 2 pictures \(b.jpg\) are not in .*images: get it by `git clone"):
        build_evaluators([line])[0].run(Fixed())  # type: ignore[arg-type]
    nothing = build_evaluators([line | {"path": str(tmp_path)}])[0]
    with pytest.raises(Absent, match=rf"there is none of {FILES[0]}, .*get it by"):
        nothing.run(Fixed())  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["[]", "{}", "no json", '{"0": {"filename": "a.jpg"}}', '{"0": 3}'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "add_att.json").write_text(text)
    with pytest.raises(HelipError, match="is no file of SugarCrepe"):
        read_pairs(tmp_path / "add_att.json")
