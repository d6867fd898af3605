"""An evaluator is refused if its configuration names a field, part, class, file, split or metric that does not exist.

Otherwise `captions: capitons` would measure one caption instead of all.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from helip.evaluation.suite import build_evaluators, check_parts
from helip.evaluation.wds import WdsSet
from tests.evaluation.wds import write_classification
from tests.programs.conftest import Result, World
from tests.samples import sample, write_tar


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Path:
    """Shards whose json has a class, and captions in all rows except one."""
    folder = tmp_path_factory.mktemp("named")
    for shard in range(4):
        samples = []
        for n in range(6):
            facts: dict[str, Any] = {"animal": ["cat", "dog"][n % 2], "id": f"{shard}{n}", "near": f"{shard}0 {shard}1"}
            if (shard, n) != (3, 0):
                facts["captions"] = [f"picture {n}", f"no. {n}"]
            samples.append((f"{shard}{n}", sample(6 * shard + n, json=json.dumps(facts).encode())))
        write_tar(folder / f"{shard:05d}.tar", samples)
    return folder


def evaluated(world: World, named: Path, line: str, *more: str) -> Result:
    return world.run("evaluate", f"dataset.path={named}", f"dataset.evaluators=[{line}]", *more)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "{kind: retrieval, part: val, captions: capitons}",
            "the field 'capitons', did you mean 'captions'?",
        ),
        ("{kind: retrieval, part: val, group: animel}", "no row has the field 'animel', did you mean 'animal'?"),
        ("{kind: zeroshot, part: val, label: breed}", "the json of the shards has animal, id, near, captions"),
        ("{kind: probe, part: val, label: animale}", "no row has the field 'animale', did you mean 'animal'?"),
        ("{kind: neighbours, part: val, field: nearr, key: id}", "no row has the field 'nearr', did you mean 'near'?"),
        ("{kind: neighbours, part: val, field: near, key: ident}", "no row has the field 'ident'"),
        ("{kind: neighbours, part: val, field: animal, key: id}", "the field 'animal' names no row of part val by its"),
        ("{kind: retrieval, part: vall}", "evaluator vall: the dataset has no part 'vall', but train, val"),
        ("{kind: probe, part: val, train: training, label: animal}", "has no part 'training', but train, val"),
        ("{kind: retreival, part: val}", "kind 'retreival' is unknown, did you mean 'retrieval'?"),
        ("{kind: retrieval, part: val, capitons: x}", "has no field 'capitons', did you mean 'captions'?, but name"),
        ("{kind: zeroshot, part: val, label: animal, templates: openia}", "templates=openia"),
    ],
)
def test_a_name_that_does_not_exist_is_refused(world: World, named: Path, line: str, words: str) -> None:
    result = evaluated(world, named, line)
    assert result.status == 1 and len(result.errors) == 1 and words in result.errors[0], result.err
    assert not (result.folder / "results.json").exists()


def test_a_row_that_lacks_a_field_is_counted(world: World, named: Path) -> None:
    """Row 0 of the part has only its own caption, the others have two."""
    result = evaluated(world, named, "{kind: retrieval, part: val, captions: captions}")
    assert result.status == 0, result.err
    assert result.out.count("val: 1 of 6 rows lack the field 'captions'") == 1


def test_a_metric_that_no_evaluator_gives_chooses_no_checkpoint(world: World) -> None:
    result = world.run("train", "helip=random", "train.max_steps=1", "train.best=val/i2t_recal@1")
    assert result.status == 1 and "train.best=val/i2t_recal@1 is not among" in result.errors[0]
    assert ", did you mean 'val/i2t_recall@1'?" in result.errors[0]


def test_parts_are_checked_before_anything_runs() -> None:
    evaluators = build_evaluators([{"kind": "probe", "part": "val", "label": "x", "val": "dev"}])
    with pytest.raises(ValueError, match="evaluator val: the dataset has no part 'dev', but train, val"):
        check_parts(evaluators, {"train": "0:1", "val": "1:2"})


def test_a_split_that_a_directory_lacks_is_named(tmp_path: Path) -> None:
    folder = write_classification(tmp_path, ["a", "b"], ["{c}"], {"test": [0, 1], "validation": [1, 0]})
    with pytest.raises(ValueError, match="has no split val, but test, validation"):
        WdsSet(folder, "val", lambda image: image)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"names class 2, but .* has 2 class names"):
        WdsSet(write_classification(tmp_path / "x", ["a", "b"], [], {"test": [0, 2]}), "test", lambda image: image)  # type: ignore[arg-type]


def test_files_of_a_published_set_that_are_not_there_are_said(world: World, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(sample(0)["jpg"])
    pair = {"0": {"filename": "a.jpg", "caption": "a cat", "negative_caption": "a dog"}}
    (tmp_path / "add_att.json").write_text(json.dumps(pair))
    line = f"{{kind: sugarcrepe, path: {tmp_path}, images: {tmp_path}/images}}"
    result = world.run("evaluate", f"dataset.evaluators=[{line}]")
    assert result.status == 0, result.err
    assert "lacks 6 of the 7 files: add_obj, replace_att" in result.out


@pytest.mark.parametrize(("label", "status"), [("animel", 1), ("animal", 0)])
def test_the_label_of_the_gallery_is_a_field(fresh: World, named: Path, label: str, status: int) -> None:
    result = fresh.run("mine", f"dataset.path={named}", f"dataset.label={label}")
    assert result.status == status, result.err
    if status:
        assert "dataset.label=animel is no field of the shards' json, did you mean 'animal'?" in result.errors[0]
        assert not list((fresh.folder / "artifacts").glob("*/embeddings/*"))  # before any work
