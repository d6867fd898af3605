"""Defaults for data other than the embedded ones: a real model, its learning rate, and a note about the toy model."""

import pytest

from helip.errors import HelipError
from helip.models.clip import ModelSpec, create_clip
from tests.programs.conftest import World, compose
from tests.test_command import helip

REAL = ("dataset=cc3m", "dataset=cc12m", "dataset=yfcc15m", "dataset=flickr8k", "dataset=folder dataset.path=DIR")


@pytest.mark.parametrize("dataset", REAL)
def test_real_data_bring_a_real_model(dataset: str) -> None:
    config = compose("train", *dataset.split())
    assert (config["model"]["name"], config["optim"]["lr"]) == ("ViT-B-32", 1e-5)
    named = compose("train", *dataset.split(), "model=rn50")
    assert (named["model"]["name"], named["optim"]["lr"]) == ("RN50", 1e-5)


def test_the_command_of_the_design() -> None:
    said = helip("train", "dataset=cc3m", "helip.topk=20", "--cfg", "job")
    assert "name: ViT-B-32" in said.stdout and "lr: 1.0e-05" in said.stdout, said.stderr


def test_the_toys_learning_rate_stays_with_the_toy() -> None:
    assert compose("train")["optim"]["lr"] == 3e-4
    assert compose("train", "model.name=ViT-B-16", "model.pretrained=laion2b_s34b_b88k")["optim"]["lr"] == 1e-5
    assert compose("train", "model.name=ViT-B-16", "optim.lr=1e-4")["optim"]["lr"] == 1e-4


def test_an_image_size_that_the_patches_do_not_divide_is_refused() -> None:
    with pytest.raises(HelipError, match=r"force_image_size=100 is no multiple of the 32-pixel patches .* take 96"):
        create_clip(ModelSpec("ViT-B-32", None, arguments={"force_image_size": 100}))


def test_what_does_not_fit_the_data_is_said(fresh: World) -> None:
    toy = ["model=emoji_tiny", "train.max_steps=1", "train.evaluate=end", 'helip="off"']
    said = fresh.run("train", *toy, "data.batch_size=64", "model.name=emoji_tiny", "model.pretrained=null")
    assert said.status == 0, said.err
    assert "note: data.batch_size=64 holds more targets than there are (32): rows repeat, and are masked" in said.out
    assert "note: emoji_tiny is a toy that was trained on the embedded emoji only" in said.out
