"""A training that is stopped at step 10 of 20 and resumed has the weights of an unbroken run, bit for bit.

Checkpoints of other settings are not resumed.
"""

import copy
import csv
import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.config import read
from helip.data.datamodule import HelipDataModule
from helip.data.pipeline import StepPositions
from helip.data.plans.contract import PlanData
from helip.mining.miner import mine_hard_pairs
from helip.models.clip import create_clip
from helip.programs.training import build_module, build_stream, fit
from helip.ranks import quiet_lightning
from helip.training.module import HelipModule
from helip.training.resume import auto_checkpoint
from helip.training.resume_guard import FIXED_KEY, OURS
from tests.programs.conftest import MODEL, World, compose, settings

OVERRIDES = [
    "trainer=cpu", "data.batch_size=8", "data.window=2", "data.caption=captions", "helip.topk=5", "optim.lr=1e-3",
    "train.max_steps=20", "train.checkpoint_every=10",
]  # fmt: skip


@pytest.fixture(scope="module")
def index(shards: Path) -> ShardIndex:
    return ShardIndex.build(sorted(shards.glob("*.tar")))


@pytest.fixture(scope="module")
def hard(index: ShardIndex) -> HardPairIndex:
    generator = torch.Generator().manual_seed(0)
    return mine_hard_pairs(*(torch.randn(len(index), 8, generator=generator).abs().numpy() for _ in range(2)), k=5)


def train(index, hard, weights: Path, folder: Path, resume: Path | None = None, workers: int = 0):
    """Weights after step 20, from the start or from a checkpoint, with the functions of train.py."""
    quiet_lightning()
    torch.manual_seed(7 if resume is None else 8)  # a resumed process starts with other random numbers
    model = [f"model.name={MODEL}", f"model.pretrained={weights}"]
    asked = settings("train", *OVERRIDES, *model, f"data.workers={workers}", f"train.resume={resume or 'null'}")
    clip, stream = create_clip(asked.model), asked.stream
    known = PlanData(index.valid, index.starts, stream.batch_size, 0, stream.window, hard=hard)
    data = build_stream(index, clip, asked.helip.plan().bind(known), stream, 0, 20)
    module = build_module(clip, asked.train, asked.optim, 20)
    fit(module, data, asked.trainer, asked.train, [], [], folder)
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def unbroken(index, hard, model_weights: Path, tmp_path_factory):
    """(weights after step 20, the checkpoint of step 10)"""
    folder = tmp_path_factory.mktemp("unbroken")
    return train(index, hard, model_weights, folder), folder / "checkpoints" / "step-000010.ckpt"


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_is_unbroken(index, hard, model_weights, unbroken, tmp_path: Path, workers: int) -> None:
    expected, checkpoint = unbroken
    assert equal(train(index, hard, model_weights, tmp_path, checkpoint, workers), expected)


def restart(self: StepPositions):
    """A loader that ignores the step: Lightning begins it anew."""
    self.first_step = 0
    return iter(range(self.first_step * self.targets, self.steps * self.targets))


def test_the_contrary_a_stream_that_is_off_by_one(
    index, hard, model_weights, unbroken, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(HelipDataModule, "train_dataloader", shifted(HelipDataModule.train_dataloader))
    expected, checkpoint = unbroken
    assert not equal(train(index, hard, model_weights, tmp_path, checkpoint), expected)


def shifted(original):
    def train_dataloader(self: HelipDataModule):
        loader = original(self)
        loader.dataset.pipeline[0].first_step += 1
        return loader

    return train_dataloader


def test_the_contrary_a_stream_that_starts_over(
    index, hard, model_weights, unbroken, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(StepPositions, "__iter__", restart)
    expected, checkpoint = unbroken
    assert not equal(train(index, hard, model_weights, tmp_path, checkpoint), expected)


def test_the_contrary_a_lost_random_state(index, hard, model_weights, unbroken, tmp_path: Path, monkeypatch) -> None:
    """Patch dropout draws from torch's generator, whose state is in the checkpoint."""
    monkeypatch.setattr(HelipModule, "on_load_checkpoint", lambda self, checkpoint: None)
    expected, checkpoint = unbroken
    assert not equal(train(index, hard, model_weights, tmp_path, checkpoint), expected)


def fixed_of(config: dict, path: str = "seed", value: object = 0) -> dict:
    """What a checkpoint records of the settings of train.py, one of them set to a value."""
    config = copy.deepcopy(config)
    *groups, name = path.split(".")
    functools.reduce(lambda node, group: node[group], groups, config)[name] = value
    return read("train", config, instantiate).fixed("fingerprint")


def test_what_is_recorded_follows_the_content_of_the_base(model_weights: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.pt"
    shutil.copyfile(model_weights, base)
    config = compose("train", *OVERRIDES, f"model.name={MODEL}", f"model.pretrained={base}")
    before = fixed_of(config)
    assert fixed_of(config, "model.pretrained", str(model_weights)) == before
    for path, value in {
        "model.name": "ViT-B-32",
        "model.pretrained": None,
        "model.arguments": {"force_patch_dropout": 0.5},
        "dataset.parts.train": "0:2",
        "dataset.weights": [{"shards": "0:1", "weight": 2}],
        "train.ema": 0.9,
        "train.lock_image": 0,
        "train.lock_text": 0,
        "trainer.precision": "bf16-mixed",
    }.items():
        changed = fixed_of(config, path, value)
        assert {name for name in changed if changed[name] != before[name]} == {path}
    for path, value in {"trainer.devices": 2, "trainer.strategy": "ddp", "train.log_every": 3}.items():
        assert fixed_of(config, path, value) == before
    base.write_bytes(base.read_bytes() + b"0")
    assert {name for name, value in fixed_of(config).items() if value != before[name]} == {"model.pretrained"}


def test_auto_passes_over_what_another_experiment_left(tmp_path: Path) -> None:
    """In its own folder and in others with the same settings, but another base at the same path."""
    config = {"paths": {"runs": str(tmp_path)}, "seed": 0}
    now, said = {"model.pretrained": "sha256:new", "seed": 0}, []

    def auto(folder: Path, **more: bool) -> Path | None:
        return auto_checkpoint(folder, tmp_path, config, lambda other: other, said.append, now, **more)

    def run(name: str, *digests: str | None) -> Path:
        folder = tmp_path / "train" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        for step, digest in enumerate(digests, start=1):
            record = {} if digest is None else {FIXED_KEY: {"model.pretrained": digest}}
            torch.save(dict.fromkeys(OURS, 0) | record, folder / "checkpoints" / f"step-00000{step}.ckpt")
        return folder

    other, mixed = run("other", "sha256:old"), run("mixed", "sha256:new", "sha256:old")
    old, new = run("old", None), tmp_path / "train" / "new"  # of an older release, which recorded no base
    assert auto(old) == old / "checkpoints" / "step-000001.ckpt"
    assert not said
    assert auto(mixed) == mixed / "checkpoints" / "step-000001.ckpt"
    assert "is of another training (model.pretrained was sha256:old and is sha256:new) and skipped" in said[-1]
    shutil.rmtree(old)
    assert auto(other) == mixed / "checkpoints" / "step-000001.ckpt"
    assert auto(other, allow_change=True) == next(other.glob("checkpoints/*"))
    (mixed / "results.json").write_text("{}")
    assert auto(new) is None
    shutil.rmtree(mixed)
    (other / "results.json").write_text("{}")  # of other settings than those of the finished run
    assert auto(new) is None
    fitting = run("fitting", "sha256:new")
    (other / "config.json").touch()
    assert auto(new) == next(fitting.glob("checkpoints/*"))


def steps_logged(run: Path) -> list[int]:
    with open(run / "metrics.csv") as file:
        return [int(line["step"]) for line in csv.DictReader(file) if line["train/loss"]]


def test_a_folder_that_another_training_used(world: World) -> None:
    """From random weights, then from the base, which moves all files aside, then resumed with one log."""
    shared = ["helip=random", "dataset.evaluators=[]", "train.max_steps=3", "train.log_every=1", "train.resume=auto"]

    def train(*overrides: str, again: Path | None = None):
        result = world.run("train", *shared, *overrides, again=again)
        assert result.status == 0, result.err
        return result

    run = train("model.pretrained=null", "train.checkpoint_every=2").folder
    (run / "checkpoints" / "step-000003.ckpt").unlink()
    taken = train("train.checkpoint_every=1", again=run)
    assert "step-000002.ckpt is of another training (model.pretrained was None and is sha256:" in taken.out
    assert "they are in earlier-1/ now" in taken.out
    names = {path.name for path in (run / "earlier-1").iterdir()}
    assert names == {"step-000002.ckpt", "final.pt", "metrics.csv"}
    assert [path.name for path in sorted(run.glob("checkpoints/*"))] == ["step-000002.ckpt", "step-000003.ckpt"]
    final = torch.load(run / "final.pt", weights_only=True)
    (run / "checkpoints" / "step-000003.ckpt").unlink()
    train(again=run)
    assert equal(torch.load(run / "final.pt", weights_only=True), final)
    assert steps_logged(run) == [0, 1, 2] and not (run / "earlier-2").exists()
    refused = world.run("train", *shared[:-1], "dataset.parts.train='0:2'", f"train.resume={run}")
    assert refused.status == 1 and "dataset.parts.train was 0:3 and is 0:2" in refused.errors[0]


def test_a_training_that_diverges_is_no_success(world: World) -> None:
    overrides = ["helip=random", "dataset.evaluators=[]", "train.max_steps=3", "optim.lr=1e18", "optim.warmup=0"]
    result = world.run("train", *overrides, "train.log_every=1")
    assert result.status == 1 and "the loss of step 2 is not finite: the training has diverged" in result.errors[0]
    assert not list(result.folder.glob("results.json")) and not list(result.folder.glob("checkpoints/*"))
