"""Evaluators on a model whose embeddings are written by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from helip.errors import HelipError
from helip.evaluation.embed import Absent
from helip.evaluation.imagenet import ImageNet
from helip.evaluation.retrieval import Retrieval
from helip.evaluation.suite import build_evaluators, evaluate_all
from helip.evaluation.zeroshot import ZeroShot

FIELDS = {
    "caption": ["a cat", "a cat", "a dog", "no label"],
    "subgroup": ["animal-cat", "animal-cat", "animal-dog", ""],
    "flat": ["one", "one", "one", "one"],
    "nothing": ["", "", "", ""],
}


CAPTIONS = [("cat", "kitten"), ("cat",), ("dog", "hound", "odd"), ("odd",)]
DIRECTIONS = {"cat": (1.0, 0.0), "kitten": (0.8, 0.6), "dog": (0.0, 1.0), "hound": (0.6, 0.8), "odd": (-1.0, 0.0)}


class HandMade:
    """Rows 0 and 1 are one concept twice, row 2 another; row 3 has no label and the model takes it for row 2."""

    device = torch.device("cpu")

    def __init__(self):
        self.calls = []

    @property
    def transform(self):
        return lambda image: torch.tensor(image.getpixel((0, 0)), dtype=torch.float32)

    def part(self, part):
        self.calls.append(part)
        if part != "test":
            raise Absent(f"the set {part!r} is not here: docs/datasets.md says how to get it")
        text = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        return np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 1.0]]), text, np.array([10, 11, 12, 13])

    def images(self, dataset):
        return np.stack([dataset[position][0].numpy() for position in range(len(dataset))])

    def classifier(self, names, templates):
        prompts = [[t.format(n) if isinstance(t, str) else t(n) for t in templates] for n in names]
        self.calls.append(prompts)
        return np.eye(3 if len(templates) == 80 else 2, len(names))

    def fields(self, rows, field):
        return [FIELDS[field][row - 10] for row in rows]

    def captions(self, rows, field):
        return [CAPTIONS[row - 10] for row in rows]

    def names(self, rows):
        return [name for name, values in FIELDS.items() if any(values[row - 10] for row in rows)]

    def texts(self, captions):
        return np.array([DIRECTIONS[caption] for caption in captions])


def test_flat_names_and_values():
    embed = HandMade()
    got = evaluate_all([Retrieval("test", "test"), ZeroShot("test", "test", "subgroup", ("a {}",))], embed)
    # image 0: 1 1 0 .6, own 1 ties with text 1: rank 2      image 1: .8 .8 .6 .96, own .8 ties with 0, below 3: rank 3
    # image 2: 0 0 1 .8: rank 1                              image 3: 0 0 1 .8, own .8, text 2 above: rank 2
    assert got["test/i2t_recall@1"] == 1 / 4 and got["test/i2t_mean_rank"] == (2 + 3 + 1 + 2) / 4
    # classes animal cat = (1, 0), animal dog = (0, 1); row 3 is left out; all three labelled rows are right
    assert got["test/zeroshot_subgroup_top1"] == got["test/zeroshot_subgroup_mean_per_class"] == 1
    assert "test/zeroshot_subgroup_top5" not in got
    assert embed.calls == ["test", [["a animal cat"], ["a animal dog"]]]  # the part was embedded once for both


def test_rows_of_one_group_are_right_answers_to_each_other():
    got = evaluate_all([Retrieval("test", "test", group="caption")], HandMade())
    # image 0: 1; image 1: own group .8, text 3 (.96) above: 2; image 2: 1; image 3 is alone: text 2 above: 2
    assert got["test/i2t_mean_rank"] == (1 + 2 + 1 + 2) / 4
    # a row without the field stands alone: by subgroup, row 3's empty value is a group of one
    assert evaluate_all([Retrieval("test", "test", group="subgroup")], HandMade()) == got


def test_all_captions_of_an_image_are_right_answers():
    got = evaluate_all([Retrieval("test", "test", captions="captions")], HandMade())
    # captions cat kitten | cat | dog hound odd | odd; images (1 0) (.8 .6) (0 1) (0 1)
    # image 0: own best 1, the cat of image 1 ties: 2
    # image 1: own .8; kitten 1 and hound .96 above, the cat of image 0 ties: 4
    # image 2: own best 1, nothing reaches it: 1
    # image 3: own 0; kitten .6, dog 1, hound .8 above, cat, cat and odd tie at 0: 7
    assert got["test/i2t_mean_rank"] == (2 + 4 + 1 + 7) / 4 and got["test/i2t_recall@1"] == 1 / 4
    # cat of 0: 1. kitten of 0 (.8 own; 1, .6, .6): 2. cat of 1 (.8 own; 1): 2.
    # dog of 2 (1 own; 0, .6, 1 ties): 2. hound of 2 (.8 own; .6, .96 above, .8 ties): 3. odd of 2 (0 own; -1, -.8, 0
    # ties): 2. odd of 3 likewise: 2
    assert got["test/t2i_mean_rank"] == (1 + 2 + 2 + 2 + 3 + 2 + 2) / 7
    assert got["test/t2i_median_rank"] == 2


def test_a_group_that_no_row_has_is_refused():
    with pytest.raises(
        HelipError, match=r"evaluator test: no row has the field 'nothing'; .* has caption, subgroup, f"
    ):
        evaluate_all([Retrieval("test", "test", group="nothing")], HandMade())


def test_two_evaluators_of_a_name_do_not_overwrite_each_other():
    both = [Retrieval("test", "test"), Retrieval("test", "test", captions="captions")]
    with pytest.raises(HelipError, match=r"two evaluators give test/i2t_.*: give one of them a name of its own, by"):
        evaluate_all(both, HandMade())


@pytest.mark.parametrize("templates", ["simple", ("{c}",), ("{}",)])
def test_a_part_takes_the_templates_of_a_directory(templates):
    embed = HandMade()
    evaluate_all([ZeroShot("test", "test", "subgroup", templates)], embed)
    cat, dog = embed.calls[-1]
    assert len(cat) == (7 if templates == "simple" else 1) and all("animal cat" in one for one in cat) and cat != dog


def test_what_is_not_here_is_skipped_with_one_line():
    said = []
    evaluators = [Retrieval("val", "val"), ZeroShot("test", "test", "flat"), Retrieval("test", "test")]
    got = evaluate_all(evaluators, HandMade(), said.append)
    assert {name.split("/")[0] for name in got} == {"test"} and "test/i2t_recall@1" in got
    assert said[0] == "skipped val: the set 'val' is not here: docs/datasets.md says how to get it"
    assert said[1].startswith("skipped test: part test has 1 classes in the field 'flat'") and len(said) == 2


def test_imagenet_uses_positions_not_order(tmp_path):
    for wnid, color in (("n01440764", (1, 0, 0)), ("n01443537", (0, 1, 0)), ("n04404412", (0, 1, 0))):
        (tmp_path / wnid).mkdir()
        Image.new("RGB", (4, 4), color).save(tmp_path / wnid / "a.png")
    got = evaluate_all([ImageNet("imagenet", str(tmp_path))], HandMade())
    # The third picture looks like the second class: 2 of 3 are right.
    assert got["imagenet/zeroshot_top1"] == pytest.approx(2 / 3)
    assert ImageNet("imagenet", str(tmp_path)).benchmark is None  # three classes of a thousand


def test_evaluators_from_configuration(tmp_path):
    (tmp_path / "n01440764").mkdir()
    specs = [
        {"kind": "retrieval", "part": "val"},
        {"kind": "zeroshot", "name": "style", "part": "test", "label": "group", "templates": ["{}", "a {}"]},
    ]
    assert build_evaluators(specs, str(tmp_path)) == (
        Retrieval("val", "val"),
        ZeroShot("style", "test", "group", ("{}", "a {}")),
        ImageNet("imagenet", str(tmp_path)),
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"kind": "retrival", "part": "val"},
            r"'retrival' is unknown, did you mean 'retrieval'\?: use one of i",
        ),
        ({"part": "val"}, "None is unknown"),
        ({"kind": "zeroshot", "part": "val"}, "label"),
        ({"kind": "retrieval", "part": "val", "at": 3}, "has no field 'at'.*, but name, every, part, group, captions"),
        ({"kind": "retrieval", "part": "val", "captoins": "x"}, r"'captoins', did you mean 'captions'\?"),
        ({"kind": "metrics", "part": "val"}, "'metrics' is unknown"),
        ({"kind": "retrieval", "part": "val", "name": "my/val"}, "the name my/val has a slash; give it a `name:`"),
    ],
)
def test_a_wrong_specification_is_one_sentence(spec, words):
    with pytest.raises(HelipError, match=words):
        build_evaluators([spec])
