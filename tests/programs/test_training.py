"""train.py and evaluate.py: every arm, the run folder, resuming, and reproducible numbers."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from helip.artifacts.atomic import file_digest
from helip.secrets import without_secrets
from tests.programs.conftest import MODEL, TRAIN, Result, World
from tests.samples import picture


def read(run: Path, name: str) -> dict:
    return json.loads((run / name).read_text())


def losses(run: Path) -> dict[int, float]:
    with open(run / "metrics.csv") as file:
        lines = list(csv.DictReader(file))
    return {int(line["step"]): float(line["train/loss"]) for line in lines if line.get("train/loss")}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "final.pt", weights_only=True)


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def mean_rank(run: Path) -> list[float]:
    """Its line in the table of metrics, without intervals."""
    line = next(line for line in (run / "metrics.md").read_text().splitlines() if "val/t2i_mean_rank" in line)
    return [float(cell.split("[")[0]) for cell in line.strip("| ").split("|")[1:]]


def short(world: World, *overrides: str) -> tuple[Result, Path]:
    """A training of two steps and its run folder."""
    steps = [] if any("train.max_steps" in o or "train.epochs" in o for o in overrides) else ["train.max_steps=2"]
    result = world.run("train", "train.log_every=1", *steps, *overrides)
    assert result.status == 0, result.err
    return result, result.folder


@pytest.fixture(scope="module")
def run(world: World, trained: Result) -> Path:
    """The run folder of the shared training."""
    assert f"run folder: {trained.folder} (final.pt, results.json" in trained.out
    return trained.folder


def test_the_run_folder_holds_everything(run: Path, world: World, trained: Result) -> None:
    results = read(run, "results.json")
    assert results["steps"] == 6 and results["pairs"] == 48 and results["seed"] == 0
    assert results["helip"]["topk"] == 5 and results["hard_pairs"] in trained.out
    assert results["optim"]["lr"] == 1e-5 and results["train"]["max_steps"] == 6 and results["data"]["batch_size"] == 8
    assert results["base"] == {"pretrained": str(world.weights), "digest": file_digest(world.weights)}
    assert len(results["settings"]) == 16 and results["encoders"] == "clip" and results["usable_rows"] == TRAIN
    seen = results["seen"]  # six steps of four targets in one pass over the rows: none twice
    assert results["targets"] == seen["distinct_targets"] == 24 and 5 < seen["distinct_partners"] <= 24
    assert seen["distinct_pairs"] <= TRAIN
    assert {"versions", "commit", "machine", "python"} <= results.keys()
    text = json.dumps(results)
    assert all(part in text for part in ("before", "after", "val/t2i_recall@1", str(run / "final.pt"), MODEL))
    assert read(run, "config.json")["train"]["max_steps"] == 6
    assert sorted(losses(run)) == list(range(6))
    assert sorted(path.name for path in (run / "checkpoints").glob("step-*")) == [
        "step-000003.ckpt",
        "step-000006.ckpt",
    ]
    assert "| val/t2i_recall@1 (%) |" in (run / "metrics.md").read_text()
    assert "max_steps=6 (as asked): 8 pairs a step, of which 4 are targets" in trained.out
    assert "loader: in the main process" in trained.out
    assert f"each of {TRAIN} targets is visited 0.75 times" in trained.out


def test_the_table_has_before_after_and_their_difference(run: Path, trained: Result) -> None:
    line = next(line for line in trained.out.splitlines() if "val/t2i_mean_rank" in line)
    before, after, difference = (float(number) for number in line.split()[1:])
    assert difference == pytest.approx(after - before, abs=0.011)


def test_weights_changed_and_evaluate_agrees(run: Path, world: World) -> None:
    before, after = torch.load(world.weights), weights(run)
    assert before.keys() == after.keys()
    assert not torch.equal(before["visual.conv1.weight"], after["visual.conv1.weight"])
    result = world.run("evaluate", f"checkpoint=[{run},{run}/checkpoints/step-000006.ckpt,{world.weights}]")
    assert result.status == 0, result.err
    before_rank, after_rank, _ = mean_rank(run)
    final, last, _, start, _ = mean_rank(result.folder)  # each but the first with its difference
    assert (final, last, start) == (after_rank, after_rank, before_rank)


def test_config_json_has_no_secrets() -> None:
    config = {"logger": {"wandb": {"api_key": "abc", "project": "p"}}, "list": [{"hf_token": "t"}], "password": ""}
    assert without_secrets(config) == {
        "logger": {"wandb": {"api_key": "***", "project": "p"}},
        "list": [{"hf_token": "***"}],
        "password": "",
    }


def test_the_same_seed_gives_the_same_weights(run: Path, world: World) -> None:
    """Also with workers, and with or without evaluations during the training."""
    _, again = short(world, "train.max_steps=6", "data.workers=2", "train.evaluate=end")
    assert losses(again) == losses(run) and same_weights(again, run)
    _, other = short(world, "train.max_steps=6", "seed=1", "train.evaluate=end")
    assert losses(other)[0] != losses(run)[0]


def test_resuming_from_a_run_folder(run: Path, world: World, tmp_path: Path) -> None:
    """From step 3 of 6 it has the weights of the unbroken run, bit for bit; from the last step too."""
    checkpoint = run / "checkpoints" / "step-000003.ckpt"
    said, resumed = short(world, "train.max_steps=6", f"train.resume={checkpoint}")
    assert sorted(losses(resumed)) == list(range(6))  # the lines before the checkpoint are the earlier run's
    assert "Training" in said.out and "6/6" in said.out  # of the whole training, not of the rest
    assert losses(run) == losses(resumed)
    assert same_weights(resumed, run)
    _, nothing = short(world, "train.max_steps=6", f"train.resume={run}")
    assert same_weights(nothing, run)


ARMS = {
    "random": (["helip=random"], "", 4),
    "released": (["helip=released", "helip.topk=5"], "hard pairs:", 4),
    "image": (["helip.score=image"], "hard pairs:", 4),
    "two partners": (["helip.p=3"], "hard pairs:", 2),
}


@pytest.mark.parametrize("arm", ARMS)
def test_arms(world: World, mined: Result, arm: str) -> None:
    overrides, said, targets = ARMS[arm]
    result, run = short(world, *overrides)
    assert said in result.out and f"8 pairs a step, of which {targets} are targets" in result.out
    assert ("hard pairs:" in result.out) == (arm != "random")
    assert all(loss > 0 for loss in losses(run).values())
    assert (read(run, "results.json")["hard_pairs"] is None) == (arm == "random")


def test_plain_training(world: World) -> None:
    result, run = short(world, "helip='off'")
    assert "8 pairs a step, of which 8 are targets" in result.out and "outliers" not in result.out
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert "train/contrastive_loss" in header or "train/clip_loss" in header


def test_what_becomes_of_outliers(world: World, mined: Result) -> None:
    """With min_similarity 0.93 some of the 32 targets keep no hard pair."""
    for outliers, fate in (("random", "given a random partner"), ("keep", "slot takes another target")):
        result, _ = short(world, "helip.min_similarity=0.93", f"helip.outliers={outliers}")
        match = re.search(rf"outliers: (\d+) targets .* fewer than 1 hard pairs: .*{fate}", result.out)
        assert match and 0 < int(match[1]) < TRAIN
        assert f"each of {TRAIN} targets" in result.out
    strict = world.run("train", "helip.min_similarity=0.97", "train.max_steps=1")
    assert strict.status == 1 and re.search(
        r"\d+% of the targets have fewer .*helip\.outliers=random", strict.errors[0]
    )


def test_epochs_print_their_steps(world: World, mined: Result) -> None:
    """Two epochs let 64 pairs enter the loss: 8 steps of 8."""
    result, run = short(world, "train.epochs=2", "train.evaluate=epoch")
    assert "max_steps=8 (2 epochs of 32 pairs)" in result.out
    assert read(run, "results.json")["steps"] == 8
    with open(run / "metrics.csv") as file:
        recalls = [(line["step"], line["val/t2i_recall@10"]) for line in csv.DictReader(file)]
    evaluated = {int(step): float(recall) for step, recall in recalls if recall}
    assert evaluated == {4: 1.0, 8: 1.0}  # after each epoch; ten places hold all of the eight rows


def test_a_dataset_without_evaluation_parts(world: World, mined: Result) -> None:
    result, _ = short(world, "dataset.evaluators=[]")
    assert "no metric was computed" in result.out
    result = world.run("train", "dataset.evaluators=[{kind: retrieval, part: test}]")
    assert result.status == 1 and "its shards by +dataset.parts.test=FIRST:LAST" in result.errors[0]


def test_imagenet_folders_are_evaluated_after_each_epoch(world: World, mined: Result, tmp_path: Path) -> None:
    for number, wnid in enumerate(("n01440764", "n01443537")):
        (tmp_path / wnid).mkdir()
        (tmp_path / wnid / "0.png").write_bytes(picture(number, format="PNG"))
    _, run = short(world, f"evaluation.imagenet={tmp_path}", "train.epochs=1")
    assert "imagenet/zeroshot_top1 (%)" in (run / "metrics.md").read_text()
    assert "imagenet/zeroshot_top1" in (run / "metrics.csv").read_text().splitlines()[0]
    assert "val/t2i_recall@1" in json.dumps(read(run, "results.json"))


def test_training_happens_in_training_mode(world: World, mined: Result, monkeypatch) -> None:
    """The evaluation before must not leave dropout off or batch norms frozen."""
    from helip.training.module import HelipModule

    modes, step = [], HelipModule.training_step

    def recording(self, batch, batch_idx):
        modes.append(all(part.training for part in self.model.modules()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(HelipModule, "training_step", recording)
    short(world, "train.evaluate=epoch", "train.epochs=1")
    assert modes == [True] * 4
