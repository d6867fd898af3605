"""The anchor: value and gradient by hand, no effect on random states and checkpoints, and a resumed run."""

import copy

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.nn.functional import normalize

from helip.errors import HelipError
from helip.models.towers import TowerSettings, prepare_towers
from helip.training.anchor import Anchor
from helip.training.losses import HelipLoss
from helip.training.module import HelipModule
from helip.training.optim import OptimSettings
from tests.training.tiny import DESCRIPTION, batch_of, fit, tiny_model


class Features(torch.nn.Module):
    """Unit vectors that do not depend on the input."""

    def __init__(self, image, text):
        super().__init__()
        self.image, self.text = torch.nn.Parameter(torch.tensor(image)), torch.nn.Parameter(torch.tensor(text))

    def forward(self, image, text):
        return {
            "image_features": normalize(self.image, dim=0).expand(len(image), -1),
            "text_features": normalize(self.text, dim=0).expand(len(text), -1),
        }


def test_value_and_gradient_by_hand():
    """Images turn by a right angle (squared distance 2), texts do not move: the mean of both is 1."""
    model = Features([1.0, 0.0], [0.0, 1.0])
    anchor = Anchor(model, 0.5)
    with torch.no_grad():
        model.image.copy_(torch.tensor([0.0, 1.0]))
    term = anchor(model(torch.zeros(3, 1), torch.zeros(3, 1)), torch.zeros(3, 1), torch.zeros(3, 1))
    assert term.item() == pytest.approx(0.5 * (2 + 0) / 2)
    term.backward()
    assert model.image.grad is not None and model.text.grad is not None
    assert model.image.grad[0] < 0  # descent leads back to the start
    assert anchor.model.image.grad is None and model.text.grad.abs().max() == 0


def anchored(folder, weight, max_steps=4, lr=1e-2):
    model = tiny_model(folder)
    anchor = Anchor(model, weight) if weight else None
    return HelipModule(model, HelipLoss(), OptimSettings(lr=lr, warmup=0), max_steps, DESCRIPTION, anchor=anchor)


def drift(module, start):
    batch = batch_of(77)
    with torch.no_grad():
        one, two = (m.eval()(image=batch["image"], text=batch["text"]) for m in (module.model, start))
    return sum(float((one[n] - two[n]).square().sum(1).mean()) for n in ("image_features", "text_features"))


def test_the_heavier_the_anchor_the_less_the_features_drift(tmp_path):
    found = []
    for weight in (None, 1.0, 100.0):
        module = anchored(tmp_path, weight)
        start = copy.deepcopy(module.model)
        torch.manual_seed(2)
        trainer = fit(module, tmp_path, 4)
        found.append(drift(module, start))
        assert ("train/anchor_loss" in trainer.logged_metrics) == bool(weight)
    assert found[0] > found[1] > found[2] > 0
    assert found[2] < 0.5 * found[0]


def test_the_copy_draws_nothing_and_is_no_part_of_the_module(tmp_path):
    module = anchored(tmp_path, 1.0)
    names = set(module.state_dict())
    assert names == set(anchored(tmp_path, None).state_dict())
    batch = batch_of(0)
    features = module.model(image=batch["image"], text=batch["text"])
    assert module.anchor is not None
    state = torch.get_rng_state()
    one = module.anchor(features, batch["image"], batch["text"])
    in_parts = module.anchor(features, batch["image"], batch["text"], 4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(one, in_parts)
    assert copy.deepcopy(module).anchor is module.anchor


def test_a_resumed_run_has_the_start_as_its_anchor(tmp_path):
    torch.manual_seed(3)
    unbroken = anchored(tmp_path, 5.0)
    every = ModelCheckpoint(tmp_path, filename="half", every_n_train_steps=2, save_top_k=1)
    fit(unbroken, tmp_path, 4, callbacks=[every], enable_checkpointing=True)
    resumed = anchored(tmp_path, 5.0)
    fit(resumed, tmp_path, 4, start=2, ckpt_path=tmp_path / "half.ckpt")
    ours, theirs = unbroken.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_fixed_temperature(tmp_path):
    module = anchored(tmp_path, None)
    prepare_towers(module.model, TowerSettings(logit_scale=10.0))
    fit(module, tmp_path, 2)
    assert float(module.model.logit_scale.exp()) == pytest.approx(10)


def test_a_temperature_out_of_range_is_refused():
    for value in (0.5, 101, float("nan")):
        with pytest.raises(HelipError, match=r"train.logit_scale is .*: give null to train the temperature"):
            TowerSettings(logit_scale=value)
