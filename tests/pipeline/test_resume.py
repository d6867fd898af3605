"""Stopped at step 10 of 20 and resumed: the weights of the unbroken run, bit for bit, by the objects of train.py."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.datamodule import HelipDataModule
from helip.data.pipeline import StepPositions
from helip.mining.miner import mine_hard_pairs
from helip.pipeline import build
from helip.pipeline.models import create_clip
from helip.pipeline.runtime import quiet_lightning
from helip.pipeline.training import build_module, build_stream, choose_partners, fit
from helip.training.module import HelipModule
from tests.pipeline.conftest import MODEL, compose

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
    """Weights after step 20, from the start or from a checkpoint, by what train.py calls."""
    quiet_lightning()
    torch.manual_seed(7 if resume is None else 8)  # a resumed process starts with other random numbers
    model = [f"model.name={MODEL}", f"model.pretrained={weights}"]
    config = compose("train", *OVERRIDES, *model, f"data.workers={workers}", f"train.resume={resume or 'null'}")
    common, pairs, settings = build.common(config), build.pair_settings(config), build.train_settings(config)
    clip = create_clip(common.model)
    partners = choose_partners(pairs, hard, index.valid, 0, Console(quiet=True))
    data = build_stream(index, clip, partners, index.valid, common.stream, pairs, 0, 20)
    module = build_module(clip, pairs, build.optim_settings(config), 20)
    fit(module, data, common.trainer, settings, [], [], folder)
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
    """The stream begins anew: what Lightning does with a loader that knows nothing of steps."""
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
    """Patch dropout draws from torch's generator, whose state travels in the checkpoint."""
    monkeypatch.setattr(HelipModule, "on_load_checkpoint", lambda self, checkpoint: None)
    expected, checkpoint = unbroken
    assert not equal(train(index, hard, model_weights, tmp_path, checkpoint), expected)
