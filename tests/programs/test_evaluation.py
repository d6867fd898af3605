"""The evaluate program and the evaluations of training: presets, comparison of checkpoints, the best checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helip.evaluation.suite import build_evaluators
from helip.models.clip import ModelSpec
from helip.programs.compare import benchmark_names
from helip.training.resume import checkpoint_model
from tests.evaluation.wds import write_both
from tests.programs.conftest import MODEL, Result, World, compose


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> list[dict[str, Any]]:
    return write_both(tmp_path_factory.mktemp("sets"))


def test_a_name_that_evaluators_of_two_benchmarks_share_is_no_benchmarks() -> None:
    lines = [
        {"kind": "zeroshot", "name": "x", "path": "/d/wds_a"},
        {"kind": "retrieval", "name": "x", "path": "/d/wds_b"},
        {"kind": "zeroshot", "name": "a", "path": "/d/wds_a"},
        {"kind": "probe", "name": "a", "path": "/d/wds_a"},
        {"kind": "retrieval", "name": "a2", "path": "/d/wds_a", "split": "validation"},
    ]
    assert benchmark_names(build_evaluators(lines)) == {"a": "wds/a"}


def test_presets_are_the_sets_of_the_papers_tables() -> None:
    """By the names of clip-benchmark's directories (benchmark/webdatasets.txt), and Food101."""
    evaluation = compose("evaluate", "evaluation=[imagenet,fine_grained,retrieval]", "paths.data=/d")["evaluation"]
    names = {Path(line["path"]).name.removeprefix("wds_") for line in evaluation["sets"].values()}
    vtab = {f"vtab-{name}" for name in ("cifar10", "cifar100", "caltech101", "pets", "flowers", "dtd")}
    others = {"food101", "sun397", "cars", "fgvc_aircraft", "imagenet1k", "mscoco_captions", "flickr30k"}
    assert names == vtab | others
    probes = compose("evaluate", "evaluation=linear_probe")["evaluation"]["sets"]
    assert len(probes) == 10 and {line["kind"] for line in probes.values()} == {"probe"}


def test_checkpoints_side_by_side(world: World, trained: Result, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """One table with intervals, and clip-benchmark's JSON for every set; an absent set is reported in one line."""
    paths = {"fine": lines[0]["path"], "dtd": f"{tmp_path}/wds_vtab-dtd"}
    sets = [f"+evaluation.sets.{name}={{kind: zeroshot, path: {path}}}" for name, path in paths.items()]
    sets += [f"+evaluation.sets.found={{kind: retrieval, path: {lines[2]['path']}}}", "evaluation.batch_size=7"]
    result = world.run("evaluate", f"checkpoint=[{world.weights},{trained.folder}]", *sets)
    assert result.status == 0, result.err
    (skipped,) = [line for line in result.out.splitlines() if line.startswith("skipped")]
    assert skipped.startswith("skipped dtd: there is nothing at") and "hf download" in skipped

    first = f"{world.weights.parent.name}/weights.pt"
    content = json.loads((result.folder / "results.json").read_text())
    intervals = content["difference_intervals"]
    (second,) = intervals["columns"]
    assert intervals["first"] == first and set(content["metrics"]) == {first, second}
    one, two = content["metrics"][first], content["metrics"][second]
    assert intervals["columns"][second].keys() == one.keys() == two.keys()
    assert all(low <= high for low, high in intervals["columns"][second].values())
    line = next(line for line in (result.folder / "metrics.md").read_text().splitlines() if "t2i_mean_rank" in line)
    low, high = intervals["columns"][second]["val/t2i_mean_rank"]
    assert f"[{low:+.2f}, {high:+.2f}]" in line

    files = [json.loads(path.read_text()) for path in sorted((result.folder / "clip_benchmark").iterdir())]
    assert len(files) == 6  # three sets, two checkpoints
    by_task = {(one["task"], one["dataset"]): one for one in files}
    fine = by_task["zeroshot_classification", "wds/fine"]
    assert set(fine) == {"dataset", "model", "pretrained", "task", "metrics", "language"}
    assert set(fine["metrics"]) == {"acc1", "acc5", "mean_per_class_recall"}
    assert fine["model"] == MODEL and fine["language"] == "en" and Path(fine["pretrained"]).is_file()
    found = by_task["zeroshot_retrieval", "wds/found"]["metrics"]
    assert {"image_retrieval_recall@5", "text_retrieval_recall@5"} < set(found)
    assert ("zeroshot_retrieval", "folder/val") in by_task


def test_training_keeps_its_best_by_a_validation_metric(world: World, trained: Result) -> None:
    best = ["train.best=val/i2t_mean_rank", "train.evaluate=1", "train.log_every=1", "optim.lr=1e-2"]
    result = world.run("train", "train.max_steps=3", *best)
    assert result.status == 0, result.err
    record = torch.load(result.folder / "checkpoints" / "best.ckpt", weights_only=True)
    step = record["global_step"]
    content = json.loads((result.folder / "results.json").read_text())["metrics"]
    assert set(content) == {"before", f"best (step {step})", "after"}
    assert content[f"best (step {step})"]["val/i2t_mean_rank"] == record["callbacks"]["BestCheckpoint"]["value"]
    again = world.run("evaluate", f"checkpoint={result.folder}/best.pt", "trainer.precision=32-true")
    measured = json.loads((again.folder / "results.json").read_text())["metrics"]
    assert next(iter(measured.values())) == content[f"best (step {step})"]
    refused = world.run("train", "train.best=test/i2t_recall@1", "+dataset.parts.test=3:4", "train.max_steps=1",
                        "dataset.evaluators=[{kind: retrieval, part: test}]")  # fmt: skip
    assert refused.errors == [
        "error: train.best=test/i2t_recall@1 would choose the checkpoint on 'test', which is reported: "
        "choose on a part whose name begins with val"
    ]


def test_a_run_folder_knows_its_model(world: World, tmp_path: Path) -> None:
    """final.pt holds only weights: name and arguments come from the run's config.json, for any ${model}."""
    changed = "+model.arguments.image_mean=[0.1,0.1,0.1]"
    trained = world.run("train", "helip=random", "train.max_steps=1", "dataset.evaluators=[]", changed)
    assert trained.status == 0, trained.err
    both = [str(trained.folder), str(trained.folder / "checkpoints" / "step-000001.ckpt")]
    result = world.run("evaluate", f"checkpoint=[{','.join(both)}]", "model=vit_b_32")
    assert result.status == 0, result.err
    final, checkpoint = json.loads((result.folder / "results.json").read_text())["metrics"].values()
    assert final == checkpoint
    alone = checkpoint_model(trained.folder / "final.pt", ModelSpec("ViT-B-32", "openai"))
    assert (alone.name, alone.arguments) == (MODEL, {"image_mean": [0.1, 0.1, 0.1]})
