import pytest
import torch

from helip.errors import HelipError
from helip.training.optim import (
    OptimSettings,
    build_optimizer,
    build_schedule,
    lr_factor,
    parameter_groups,
    warmup_steps,
)
from tests.training.tiny import tiny_model


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (100, 0), (7, 7), (1, 0)])
def test_the_schedule_is_open_clips(steps, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = pytest.importorskip("open_clip_train.scheduler", reason="not in this release's wheel")
    theirs = scheduler.cosine_lr(optimizer, 3e-4, warmup, steps)
    for step in range(steps):
        assert 3e-4 * lr_factor(step, steps, warmup) == pytest.approx(theirs(step), abs=1e-18)
    assert lr_factor(steps, steps, warmup) == lr_factor(steps + 5, steps, warmup) == 0


def test_the_schedule_drives_the_optimizer_step_by_step():
    optimizer = build_optimizer(torch.nn.Linear(2, 2), OptimSettings(lr=0.1))
    schedule = build_schedule(optimizer, 0.25, 8)
    seen = []
    for _ in range(8):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([0.1 * lr_factor(step, 8, 2) for step in range(8)])
    assert seen[:3] == pytest.approx([0.05, 0.1, 0.1])


def test_warmup_in_steps_or_as_a_share():
    assert warmup_steps(0.05, 200) == 10
    assert warmup_steps(5, 200) == 5
    assert warmup_steps(500, 200) == 200
    assert warmup_steps(0, 200) == warmup_steps(0.0, 200) == 0


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"warmup": 1.0}, {"warmup": -1}])
def test_impossible_settings_name_their_key(settings):
    with pytest.raises(HelipError, match=f"optim.{next(iter(settings))}"):
        OptimSettings(**settings)


def test_groups_follow_open_clips_rule(tmp_path):
    model = tiny_model(tmp_path)
    model.lock_image_tower()
    without, decayed = parameter_groups(model, 0.2)
    named = dict(model.named_parameters())
    # open_clip_train/main.py 3.3.0, word for word
    exclude = lambda n, p: p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n  # noqa: E731
    expected = [[p for n, p in named.items() if p.requires_grad and exclude(n, p) is yes] for yes in (True, False)]
    assert [id(p) for p in without["params"]] == [id(p) for p in expected[0]]
    assert [id(p) for p in decayed["params"]] == [id(p) for p in expected[1]]
    assert (without["weight_decay"], decayed["weight_decay"]) == (0.0, 0.2)
    assert any(p is model.logit_scale for p in without["params"])
    assert not any(p is named["visual.conv1.weight"] for p in decayed["params"])  # locked


def test_optimizer_takes_betas_and_eps_from_the_settings():
    optimizer = build_optimizer(torch.nn.Linear(2, 2), OptimSettings(beta2=0.999, eps=1e-8))
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["eps"] == 1e-8
    with pytest.raises(HelipError, match="no trainable"):
        build_optimizer(torch.nn.ReLU(), OptimSettings())
