"""Margins against numpy and by hand; blocks of rows against the whole; no cost of a margin of 0."""

import math

import numpy as np
import pytest
import torch

from helip.errors import HelipError
from helip.training.losses import HelipLoss, HelipSigLipLoss
from helip.training.margins import ConstantMargin, HardNegativeMargin, Margin, SimilarityMargin
from tests.reference_losses import numpy_contrastive, numpy_gradients, numpy_hnml, numpy_offset
from tests.training.batches import features, roles
from tests.training.two_ranks import CASES, Towers, global_batch, run_case

MARGINS = [
    ConstantMargin(0.3),
    SimilarityMargin(0.5),
    SimilarityMargin(1.0, "image"),
    SimilarityMargin(0.5, permuted=True),
    HardNegativeMargin(0.7),
    HardNegativeMargin(0.7, symmetric=True),
    Margin(),
]


def gradients(loss, target, identity, mined, image, text, **settings):
    """(terms, gradients of the summed terms by image, text and scale)"""
    scale = torch.tensor(9.0, dtype=image.dtype)
    leaves = [tensor.clone().requires_grad_() for tensor in (image, text, scale)]
    bias = torch.tensor(-3.0, dtype=image.dtype)
    terms = loss(*leaves, target, identity, mined, logit_bias=bias, **settings)
    total = torch.stack([value for name, value in terms.items() if name.endswith("_loss")]).sum()
    return {name: value.detach() for name, value in terms.items()}, torch.autograd.grad(total, leaves)


def in_numpy(case, towers, batch):
    """The loss of a case as a function of its towers' parameters, and the parameters; detached parts are constants."""
    make, settings, _ = CASES[case]
    image, text, (target, identity, mined) = (x.numpy() if isinstance(x, torch.Tensor) else x for x in batch)
    target, identity, mined = target.numpy(), identity.numpy(), mined.numpy()
    margin = settings.get("margin") or HardNegativeMargin(settings["margin_weight"], settings.get("symmetric", False))
    parameters = {name: parameter.detach().numpy() for name, parameter in towers.named_parameters()}

    def embed(values, inputs, side):
        found = inputs @ values[f"{side}.weight"].T + values[f"{side}.bias"]
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    offset = np.zeros((len(image), len(image)))
    if isinstance(margin, ConstantMargin):
        offset = numpy_offset(np.zeros((len(image), 1)), identity, m=margin.m)
    if isinstance(margin, SimilarityMargin):
        count = len(image)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(count)).numpy()
        frozen = embed(parameters, text if margin.of == "text" else image, margin.of)
        offset = numpy_offset(frozen, identity, gamma=margin.gamma, order=order if margin.permuted else None)

    def loss(values):
        i, t = embed(values, image, "image"), embed(values, text, "text")
        kind = "siglip" if make is HelipSigLipLoss else "clip"
        scale, bias = math.exp(values["logit_scale"]), values["logit_bias"]
        total = numpy_contrastive(kind, i, t, scale, bias, identity, offset)
        if isinstance(margin, HardNegativeMargin) and margin.weight:
            both = numpy_hnml(t, i, target, identity, mined) if margin.symmetric else 0
            total += margin.weight * (numpy_hnml(i, t, target, identity, mined) + both)
        return total

    return loss, parameters


@pytest.mark.parametrize("case", CASES)
def test_one_process_equals_numpy_and_its_central_differences(case):
    """tests/training/test_two_ranks.py compares two and four ranks with this one process."""
    make, settings, _ = CASES[case]
    towers, batch = Towers(), global_batch(case)
    loss, parameters = in_numpy(case, towers, batch)
    expected = numpy_gradients(loss, parameters)
    terms, found = run_case(case, towers, make(**settings), batch)
    total = sum(value for name, value in terms.items() if name.endswith("_loss"))
    assert float(total) == pytest.approx(loss(parameters), rel=1e-10)
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient.numpy(), expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [HelipLoss, HelipSigLipLoss])
@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("rows", [1, 4, 5, 12])
def test_blocks_of_rows_are_the_whole(margin, kind, rows):
    """14 rows in blocks of 1, of 4 and 5 with a shorter last block, and of 12."""
    target, identity, mined = roles(5, 1, 4, seed=3)
    image, text = features(len(target), 6, seed=8)
    whole = gradients(kind(margin=margin), target, identity, mined, image, text)
    entries = rows * len(target)
    terms, found = gradients(kind(margin=margin, max_entries=entries), target, identity, mined, image, text)
    assert len(target) == 14
    for name, value in whole[0].items():
        torch.testing.assert_close(terms[name], value, rtol=1e-12, atol=1e-14, equal_nan=True)
    for one, other in zip(found, whole[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_constant_margin_by_hand():
    """Two pairs: each asks log(1 + exp(s (negative + m - positive)))."""
    image, text = torch.eye(2), torch.tensor([[0.9, 0.1], [0.4, 0.6]])  # s(0, .) = .9 .4, s(1, .) = .1 .6
    scale, m = 5.0, 0.2
    terms = HelipLoss(margin=ConstantMargin(m))(image, text, torch.tensor(scale), torch.arange(2))
    gaps = [0.4 - 0.9, 0.1 - 0.6, 0.1 - 0.9, 0.4 - 0.6]
    expected = sum(math.log1p(math.exp(scale * (gap + m))) for gap in gaps) / 4
    assert terms["clip_loss"] == pytest.approx(expected) and terms["margin_loss"] == 0
    assert terms["margin_mean"] == pytest.approx(m)


def test_a_margin_that_is_large_at_the_scale_is_noted() -> None:
    assert ConstantMargin(0.6).note(28.0) == "" and Margin().note(100.0) == ""
    said = ConstantMargin(0.6).note(100.0)
    assert "adds 60 to the logit" in said and "helip.margin.m=0.15 adds what was studied" in said


def test_similarity_margin_by_hand_and_no_gradient_passes_through_it():
    image, text = torch.eye(2), torch.tensor([[0.6, 0.8], [0.8, 0.6]])  # T T^t off the diagonal: 0.96
    alike = HelipLoss(margin=SimilarityMargin(0.5))
    same = HelipLoss(margin=ConstantMargin(0.48))
    arguments = torch.arange(2), None, None, image, text
    (of_alike, first), (of_same, second) = gradients(alike, *arguments), gradients(same, *arguments)
    assert of_alike["clip_loss"] == pytest.approx(float(of_same["clip_loss"]))
    assert of_alike["margin_mean"] == pytest.approx(0.48)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


def test_the_permuted_matrix_keeps_its_values_and_puts_them_elsewhere():
    count = 24
    target, identity, _ = roles(count, 0, 0, seed=1)
    image, text = features(count, 6, seed=2)
    seen = {}
    for permuted in (False, True):

        class Keep(SimilarityMargin):
            def offset(self, block):
                offset = super().offset(block)
                seen[self.permuted] = offset
                return offset

        HelipLoss(margin=Keep(0.5, permuted=permuted))(image, text, torch.tensor(5.0), target, identity)
    plain, moved = seen[False].clone(), seen[True]
    plain[torch.from_numpy((identity.numpy()[:, None] == identity.numpy()[None]).any(-1))] = 0
    moved.fill_diagonal_(0)
    torch.testing.assert_close(moved, moved.T)
    torch.testing.assert_close(moved.flatten().sort().values, plain.flatten().sort().values)
    assert (moved != plain).float().mean() > 0.8


@pytest.mark.parametrize("make", [HelipLoss, HelipSigLipLoss])
@pytest.mark.parametrize("margin", [ConstantMargin(0), SimilarityMargin(0), HardNegativeMargin(0)])
def test_a_margin_of_0_is_no_margin_to_the_bit(make, margin):
    target, identity, mined = roles(5, 1, 4, seed=3)
    batch = target, identity, mined, *features(len(target), 6, seed=8, dtype=torch.float32)
    plain, found = gradients(make(margin=Margin()), *batch), gradients(make(margin=margin), *batch)
    assert {n: v.item() for n, v in found[0].items()} == {n: v.item() for n, v in plain[0].items()}
    assert all(torch.equal(one, other) for one, other in zip(found[1], plain[1], strict=True))
    block = object()  # no values are read, so none are computed
    assert margin.offset(block) is None and margin.term(block) is None


def test_suspects_and_masked_share_by_hand():
    """Pair 0 is more similar to image and caption of pair 1 than to its own; 2 and 3 share a caption."""
    image = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.6, 0.8]])
    text = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    identity = torch.tensor([[0, 5], [1, 6], [2, 7], [3, 7]])
    terms = HelipLoss(0)(image, text, torch.tensor(1.0), torch.arange(4), identity)
    assert terms["masked_share"] == pytest.approx(2 / 12)
    # rows 0 and 1 have a positive of 0: image 0 has 1 with text 1, text 0 has 1 and 0.6 with images 1 and 3
    assert terms["false_negative_suspects"] == pytest.approx(2 / 4)


def test_bad_input_is_one_sentence():
    with pytest.raises(HelipError, match=r"m \(helip\.margin\.m\) is -0\.1.*from 0"):
        ConstantMargin(-0.1)
    with pytest.raises(HelipError, match=r"helip\.margin\.m\) is nan"):
        ConstantMargin(math.nan)
    with pytest.raises(HelipError, match=r"gamma \(helip\.margin\.gamma\) is -1"):
        SimilarityMargin(-1)
    with pytest.raises(HelipError, match=r"helip\.margin\.of\) is caption.*text, image"):
        SimilarityMargin(0.5, "caption")
    with pytest.raises(HelipError, match=r"weight \(helip\.margin_weight\) is -1"):
        HardNegativeMargin(-1)
    with pytest.raises(HelipError, match=r"not both"):
        HelipLoss(margin_weight=1.0, margin=ConstantMargin(0.3))
