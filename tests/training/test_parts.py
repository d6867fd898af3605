"""Micro-batches of the forward pass have one loss and the gradients of the whole batch.

test_two_ranks.py tests them on several ranks.
"""

import pytest
import torch

from helip.models.towers import forward_in_parts
from helip.training.losses import HelipLoss
from tests.training.tiny import CONFIG, both_ranks, fit, tiny_model, tiny_module


def gradients(model, loss, batch, parts):
    """(terms, gradients by name) of one backward pass."""
    model.train().zero_grad()
    features = forward_in_parts(model, batch["image"].double(), batch["text"], parts)
    terms = loss(**features, **{name: batch[name] for name in ("target", "identity", "mined")})
    (terms["clip_loss"] + terms["margin_loss"]).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in terms.items()}, found


@pytest.fixture
def model(tmp_path):
    """In float64, and without dropout, whose draws depend on the parts."""
    return tiny_model(tmp_path, vision_cfg=CONFIG["vision_cfg"] | {"patch_dropout": 0.0}).double()


@pytest.mark.parametrize("parts", [2, 4, 9])  # of nine pairs: uneven, uneven, one by one
def test_gradients_are_those_of_the_whole_batch(model, parts):
    terms, whole = gradients(model, HelipLoss(), both_ranks(0), 1)
    assert terms["margin_loss"] > 0
    found_terms, found = gradients(model, HelipLoss(), both_ranks(0), parts)
    assert found.keys() == whole.keys()
    for name, value in terms.items():
        torch.testing.assert_close(found_terms[name], value, rtol=1e-10, atol=0)
    largest = max((found[name] - value).abs().max().item() for name, value in whole.items())
    print(f"{parts} parts: largest difference of a gradient {largest:.1e}")
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-12)


def test_parts_pass_one_after_the_other_and_twice(model, monkeypatch):
    """Nine pairs in three parts: no call sees more than three, three calls without and three with activations."""
    sizes, recorded = [], type(model).forward

    def forward(self, image, text):
        sizes.append((len(image), torch.is_grad_enabled()))
        return recorded(self, image, text)

    monkeypatch.setattr(type(model), "forward", forward)
    gradients(model, HelipLoss(), both_ranks(0), 6)
    assert [size for size, _ in sizes] == [3] * 12


def test_dropout_draws_the_same_both_times(tmp_path):
    """With patch dropout, the second pass must use the patches of the first, so that the gradient fits the features."""
    model = tiny_model(tmp_path).double().train()
    batch = both_ranks(0)
    image, text = batch["image"].double(), batch["text"]
    torch.manual_seed(3)
    joined = forward_in_parts(model, image, text, 3)
    joined["image_features"].square().sum().mul(2).add(joined["image_features"].sum()).backward()
    found = model.visual.conv1.weight.grad.clone()
    model.zero_grad()
    torch.manual_seed(3)
    outputs = [model(image=i, text=t) for i, t in zip(image.chunk(3), text.chunk(3), strict=True)]
    features = torch.cat([output["image_features"] for output in outputs])
    features.square().sum().mul(2).add(features.sum()).backward()
    torch.testing.assert_close(found, model.visual.conv1.weight.grad, rtol=1e-10, atol=1e-12)


def test_a_training_in_parts(tmp_path):
    weights = []
    for parts in (1, 3):
        module = tiny_module(tmp_path, dropout=0.0, eps=1e-3)
        module.accum_freq = parts
        fit(module, tmp_path, 4)
        weights.append(module.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-5)
