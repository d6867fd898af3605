"""The loss against double loops in float64, against open_clip, and in edge cases."""

import open_clip.loss
import pytest
import torch

from helip.errors import HelipError
from helip.training.batch_roles import lay_out, mined_members
from helip.training.losses import HelipLoss, HelipSigLipLoss
from tests.reference_losses import helip_loss, siglip_term
from tests.training.batches import features, roles

SCALE = torch.tensor(7.0, dtype=torch.float64)


def value_and_gradients(function, *tensors):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    loss = function(*leaves)
    return loss.detach(), torch.autograd.grad(loss, leaves, allow_unused=True)


def assert_same(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual[0], expected[0], rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(actual[1], expected[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("targets", "p", "fillers"), [(8, 1, 0), (5, 3, 2), (9, 0, 1), (1, 2, 1)])
def test_equals_the_double_loops(targets, p, fillers, mask, symmetric):
    target, identity, mined = roles(targets, p, fillers, seed=targets)
    image, text = features(len(target), 6, seed=3)
    module = HelipLoss(margin_weight=0.7, symmetric=symmetric, mask_duplicates=mask)

    def ours(image, text, scale):
        terms = module(image, text, scale, target, identity, mined)
        return terms["clip_loss"] + terms["margin_loss"]

    def plain(image, text, scale):
        return sum(helip_loss(image, text, scale, target, identity, mined, 0.7, symmetric, mask))

    assert_same(value_and_gradients(ours, image, text, SCALE), value_and_gradients(plain, image, text, SCALE))
    if p and targets > 1:
        assert module(image, text, SCALE, target, identity, mined)["margin_loss"] > 0


def test_gradcheck():
    target, identity, mined = roles(4, 2, 1, seed=2)
    image, text = (side.requires_grad_() for side in features(len(target), 3, seed=5))
    module = HelipLoss(symmetric=True)

    def total(*inputs):
        terms = module(*inputs, target, identity, mined)
        return terms["clip_loss"] + terms["margin_loss"]

    assert torch.autograd.gradcheck(total, (image, text, SCALE.clone().requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_masks_and_margin_it_is_open_clips_loss(dtype):
    image, text = features(12, 8, seed=1, dtype=dtype)
    target, scale = torch.arange(12), SCALE.to(dtype)
    ours = value_and_gradients(
        lambda i, t, s: HelipLoss(margin_weight=0)(i, t, s, target)["clip_loss"], image, text, scale
    )
    theirs = value_and_gradients(open_clip.loss.ClipLoss(), image, text, scale)
    assert_same(ours, theirs, 1e-6 if dtype == torch.float32 else 1e-12)


def test_siglip_equals_open_clips_and_the_double_loops():
    target, identity, mined = roles(6, 1, 2, seed=4)
    image, text = features(len(target), 5, seed=2)
    bias = torch.tensor(-3.0, dtype=torch.float64)
    loss = HelipSigLipLoss()

    def ours(image, text, scale, bias, identity=None):
        return loss(image, text, scale, target, identity, logit_bias=bias)["siglip_loss"]

    def masked(image, text, scale, bias):
        return ours(image, text, scale, bias, identity)

    def plain(image, text, scale, bias):
        return siglip_term(image, text, scale, bias, identity)

    leaves = (image, text, SCALE, bias)
    assert_same(value_and_gradients(ours, *leaves), value_and_gradients(open_clip.loss.SigLipLoss(), *leaves))
    assert_same(value_and_gradients(masked, *leaves), value_and_gradients(plain, *leaves))
    margin = loss(image, text, SCALE, target, identity, mined, logit_bias=bias)["margin_loss"]
    torch.testing.assert_close(margin, helip_loss(image, text, SCALE, target, identity, mined)[1])
    with pytest.raises(HelipError, match="logit_bias"):
        loss(image, text, SCALE, target)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("layout", ["no partner", "all filler", "one pair", "only duplicates"])
def test_a_target_without_a_live_hard_pair_adds_exactly_nothing(layout, symmetric):
    count = 1 if layout == "one pair" else 6
    image, text = (side.requires_grad_() for side in features(count, 4, seed=9, dtype=torch.float32))
    target = {"all filler": torch.full((6,), -1), "only duplicates": torch.tensor([0, 1, 2, 0, 1, 2])}.get(
        layout, torch.arange(count)
    )
    identity = torch.stack([torch.arange(count) % 3, torch.arange(count) + 10], dim=1)
    terms = HelipLoss(symmetric=symmetric)(image, text, SCALE.float(), target, identity)
    assert terms["margin_loss"].item() == 0
    gradients = torch.autograd.grad(terms["margin_loss"], (image, text), retain_graph=True)
    assert all((gradient == 0).all() for gradient in gradients)
    total = torch.autograd.grad(terms["margin_loss"] + terms["clip_loss"], (image, text))
    assert all(gradient.isfinite().all() for gradient in total)


def test_roles_of_a_batch_worked_out_by_hand():
    # targets 0, 1; hard pairs 2 (of 0), 3 (of 1, same caption as 1); 4 repeats the row of 0; 5 is mined for 0
    target = torch.tensor([0, 1, 0, 1, -1, -1])
    identity = torch.tensor([[7, 1, 1], [8, 2, 2], [9, 3, 3], [10, 4, 2], [7, 1, 1], [11, 6, 6]])
    mined = torch.full((6, 2), -1)
    mined[0] = torch.tensor([9, 11])
    pairs = lay_out(target, identity, mined, mask_duplicates=True).rows(0, 6)
    assert pairs.hard.tolist() == [False, False, True, False, False, False]
    assert pairs.normal[0].tolist() == [False, True, False, True, False, False]
    assert pairs.normal[1].tolist() == [True, False, True, False, True, True]
    assert not pairs.normal[2:].any()
    assert pairs.duplicate is not None
    assert pairs.duplicate.nonzero().tolist() == [[0, 4], [1, 3], [3, 1], [4, 0]]
    assert pairs.targets == 2


def test_mined_members_against_plain_membership():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 30, (50,), generator=generator)  # rows repeat
    mined = torch.randint(-1, 60, (20, 7), generator=generator)
    expected = [[int(r) in [int(m) for m in line] for r in rows] for line in mined]
    assert mined_members(mined, rows).tolist() == expected


def test_only_the_row_and_not_its_digest_makes_a_mined_member():
    target = torch.arange(3)
    identity = torch.tensor([[0, 50], [1, 51], [2, 52]])
    mined = torch.tensor([[51, 52], [-1, -1], [-1, -1]])  # equal to digests of the others, not to rows
    assert lay_out(target, identity, mined, True).rows(0, 3).normal[0].tolist() == [False, True, True]


def test_statistics_by_hand():
    image = torch.eye(4)
    text = torch.tensor([[0.9, 0.1, 0, 0], [0.2, 0.5, 0, 0], [0.3, 0, 0.6, 0], [0.4, 0.7, 0, 0.8]])
    # targets 0 and 1, hard pairs 2 (of 0) and 3 (of 1); s(0, .) = .9 .2 .3 .4, s(1, .) = .1 .5 0 .7
    terms = HelipLoss()(image, text, torch.tensor(1.0), torch.tensor([0, 1, 0, 1]))
    assert terms["similarity_positive"] == pytest.approx(0.7)
    assert terms["similarity_hard"] == pytest.approx(0.5)
    assert terms["similarity_normal"] == pytest.approx((0.2 + 0.4 + 0.1 + 0.0) / 4)
    assert terms["accuracy_normal"] == 1
    assert terms["accuracy_hard"] == 0.5
    assert terms["masked_pairs"] == 0
    # margin: target 0: max(0, .4 - .3) / 2; target 1: nothing above .7
    assert terms["margin_loss"] == pytest.approx(0.1 / 2 / 2)
    assert not any(value.requires_grad for name, value in terms.items() if not name.endswith("_loss"))


def test_an_own_caption_that_ties_beats_nothing_and_what_is_not_there_is_nan():
    text = torch.tensor([[0.5, 0.25], [0.5, 0.75]])  # s(0, .) = .5 .5, s(1, .) = .25 .75
    apart = HelipLoss()(torch.eye(2), text, torch.tensor(1.0), torch.tensor([0, 1]))
    assert apart["accuracy_normal"] == 0.5 and apart["similarity_normal"] == pytest.approx(0.375)
    assert apart["accuracy_hard"].isnan() and apart["similarity_hard"].isnan()
    paired = HelipLoss()(torch.eye(2), text, torch.tensor(1.0), torch.tensor([0, 0]))
    assert paired["accuracy_hard"] == 0 and paired["similarity_hard"] == 0.5
    assert paired["accuracy_normal"].isnan() and paired["similarity_normal"].isnan()


def test_a_normal_negative_as_similar_as_the_hard_pair_has_no_gradient():
    image, text = features(3, 4, seed=8)
    text[1] = text[2]  # the normal negative and the hard pair of target 0
    text.requires_grad_()
    margin = HelipLoss()(image, text, SCALE, torch.tensor([0, 1, 0]))["margin_loss"]
    assert margin.item() == 0 and (torch.autograd.grad(margin, text)[0] == 0).all()


def test_at_weight_0_the_margin_is_left_out():
    image, text = (side.requires_grad_() for side in features(4, 4, seed=8))
    margin = HelipLoss(margin_weight=0)(image, text, SCALE, torch.tensor([0, 1, 0, 1]))["margin_loss"]
    assert margin.item() == 0 and not margin.requires_grad


def test_a_bias_is_added_as_open_clip_adds_it():
    """A bias does not change the softmax, but at 1024 its sign changes how float32 logits round."""
    image, text = features(12, 8, seed=1, dtype=torch.float32)
    bias = torch.tensor(1024.0)
    ours = HelipLoss(0)(image, text, SCALE.float(), torch.arange(12), logit_bias=bias)["clip_loss"]
    assert ours == open_clip.loss.ClipLoss()(image, text, SCALE.float(), logit_bias=bias)


def test_logits_stay_float32_under_autocast():
    image, text = features(32, 16, seed=6, dtype=torch.float32)
    target = torch.tensor([*range(16), *range(16)])
    expected = HelipLoss()(image, text, torch.tensor(100.0), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = HelipLoss()(image, text, torch.tensor(100.0), target)
    assert actual["clip_loss"].dtype == torch.float32
    assert {name: value.item() for name, value in actual.items()} == {n: v.item() for n, v in expected.items()}


def test_bad_input_is_one_sentence():
    image, text = features(4, 4, seed=0)
    with pytest.raises(HelipError, match="3 targets"):
        HelipLoss()(image, text, SCALE, torch.arange(3))
    with pytest.raises(HelipError, match="int64"):
        HelipLoss()(image, text, SCALE, torch.arange(4).float())
    with pytest.raises(HelipError, match="without identity"):
        HelipLoss()(image, text, SCALE, torch.arange(4), mined=torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(HelipError, match="identity is"):
        HelipLoss()(image, text, SCALE, torch.arange(4), identity=torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(HelipError, match="margin_weight"):
        HelipLoss(margin_weight=-1)
    with pytest.raises(HelipError, match="rank 1 of 2"):
        HelipLoss(rank=1, world_size=2)(image, text, SCALE, torch.arange(4))
