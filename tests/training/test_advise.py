"""The rule of the advice on invented numbers, and losses of rows against the loss of a training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from helip.training.advise import Measured, advise, report
from helip.training.losses import HelipLoss
from helip.training.saturation import Embedded, Saturation
from tests.training.batches import features, roles

B, N, K = 32, 20_000, 20
CHANCE = math.log(B)


def at(share):
    return Saturation(share * CHANCE, CHANCE, 0.5)


MEASURED = Measured(K, B, N, at(0.07), at(0.49), at(0.12))


def test_a_loss_of_rows_is_that_of_training():
    target, identity, _ = roles(14, 0, 0, seed=3)
    image, text = features(14, 6, seed=1, dtype=torch.float32)
    pairs = Embedded(image.numpy(), text.numpy(), identity.numpy(), 9.0)
    losses = pairs.losses(np.arange(14))
    expected = HelipLoss(0)(image, text, torch.tensor(9.0), target, identity)["clip_loss"]
    assert losses.mean() == pytest.approx(float(expected), rel=1e-5)
    assert float(HelipLoss(0)(image, text, torch.tensor(9.0), target)["clip_loss"]) > losses.mean() + 0.01
    found = pairs.saturation([np.arange(7), np.arange(7, 14)])
    assert found.chance == pytest.approx(math.log(7))
    assert found.loss == pytest.approx(
        np.concatenate([pairs.losses(np.arange(7)), pairs.losses(np.arange(7, 14))]).mean()
    )


def test_spent_rows_are_counted():
    eye = np.eye(4, dtype=np.float32)
    near = np.concatenate([eye[:2], eye[2:3], eye[2:3]])  # captions 2 and 3 are the same, but not known to be
    pairs = Embedded(near, near, np.arange(4)[:, None], 50.0)
    assert pairs.saturation([np.arange(4)]).spent == 0.5


@pytest.mark.parametrize(
    ("training", "held_out", "kind"),
    [
        (0.5, 0.6, "falling"),
        (0.25, 0.6, "middle"),
        (0.07, 0.49, "overfit"),
        (0.07, 0.08, "spent"),
        (0.07, None, "spent"),
    ],
)
def test_kinds(training, held_out, kind):
    found = replace(MEASURED, training=at(training), held_out=None if held_out is None else at(held_out))
    assert found.kind == kind


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (0.5, "hard batches will not help here, because random ones still teach (loss 0.50 of ln B)"),
        (0.25, "hard batches will not help here, because random ones still teach (loss 0.25 of ln B)"),
        (0.07, "random batches have little left to teach (loss 0.07 of ln B)"),
    ],
)
def test_below_the_dose_a_margin_alone(training, said):
    advice = advise(replace(MEASURED, training=at(training)))
    assert advice.overrides == "helip=margin" and "take helip=margin" in advice.sentence
    assert advice.sentence.startswith(said)


def test_a_high_dose_decides_before_all_else():
    """The emoji at batch 256: 20 * 255 / 3,231 = 1.58; at 64 h is 0.39, at 128 0.79."""
    emoji = replace(MEASURED, batch_size=256, rows=3232, training=at(0.5))
    advice = advise(emoji)
    assert advice.overrides == 'helip="off"' and "already holds 1.6 of a row's 20 hardest pairs" in advice.sentence
    assert "data.batch_size of 64 or less" in advice.sentence


def test_what_is_printed():
    lines = report(MEASURED, advise(MEASURED))
    assert lines[0] == "dose: a random batch of 32 of 20,000 rows holds h = 0.031 of a row's 20 hardest pairs"
    assert "= 0.07 ln B on training rows (50% of them under 0.001)" in lines[1]
    assert lines[1].endswith("the checkpoint is overfit") and "+0.050 ln B" in lines[2]
    assert len(report(replace(MEASURED, with_partners=None, held_out=None), advise(MEASURED))) == 3
