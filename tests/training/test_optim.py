from typing import Any

import open_clip
import pytest
import torch

from helip.errors import HelipError
from helip.training.optim import (
    OptimSettings,
    build_optimizer,
    build_schedule,
    layer_depths,
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


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        (
            "ViT-B-32",
            {
                "visual.conv1.weight": 13, "visual.class_embedding": 13, "visual.ln_pre.bias": 13,
                "visual.transformer.resblocks.0.ln_1.weight": 12, "visual.transformer.resblocks.11.mlp.c_fc.bias": 1,
                "visual.ln_post.weight": 0, "visual.proj": 0, "positional_embedding": 13, "token_embedding.weight": 13,
                "transformer.resblocks.3.attn.in_proj_bias": 9, "text_projection": 0, "logit_scale": 0,
            },
        ),
        (
            "RN50",
            {
                "visual.conv1.weight": 5, "visual.bn3.bias": 5, "visual.layer1.0.conv1.weight": 4,
                "visual.layer4.2.bn3.bias": 1, "visual.attnpool.positional_embedding": 0,
            },
        ),
        (
            "ViT-B-16-SigLIP",
            {
                "visual.trunk.patch_embed.proj.bias": 13, "visual.trunk.blocks.11.norm1.weight": 1,
                "visual.trunk.attn_pool.mlp.fc2.bias": 0, "text.token_embedding.weight": 13,
                "text.transformer.resblocks.0.ln_1.weight": 12, "text.text_projection.bias": 0, "logit_bias": 0,
            },
        ),
    ],
)  # fmt: skip
def test_depths_of_known_models(name, depths):
    config: Any = open_clip.get_model_config(name)
    make = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        model = make(**config)
    found = layer_depths(name for name, _ in model.named_parameters())
    assert {name: found[name] for name in depths} == depths


def test_each_layer_has_its_learning_rate(tmp_path):
    model = tiny_model(tmp_path)  # two blocks a tower
    optimizer = build_optimizer(model, OptimSettings(lr=0.1, layer_decay=0.5))
    schedule = build_schedule(optimizer, 0.0, 4)
    optimizer.step()
    schedule.step()
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    own = {name: rate[id(parameter)] / lr_factor(1, 4, 0) for name, parameter in model.named_parameters()}
    assert own["logit_scale"] == own["visual.proj"] == pytest.approx(0.1)
    assert own["visual.transformer.resblocks.1.ln_1.weight"] == pytest.approx(0.05)
    assert own["transformer.resblocks.0.mlp.c_fc.weight"] == pytest.approx(0.025)
    assert own["visual.conv1.weight"] == own["token_embedding.weight"] == pytest.approx(0.0125)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {decays[id(p)] for p in model.parameters() if p.ndim < 2} == {0.0}


def test_layers_of_an_unknown_model_are_refused():
    with pytest.raises(HelipError, match=r"optim\.layer_decay=0\.5"):
        build_optimizer(torch.nn.Linear(2, 2), OptimSettings(layer_decay=0.5))
    with pytest.raises(HelipError, match=r"optim\.betas=\[0\.9, 1\.5\] must be two numbers"):
        OptimSettings(betas=[0.9, 1.5])
    with pytest.raises(HelipError, match=r"optim\.weight_decay=-0\.1 must not be negative"):
        OptimSettings(weight_decay=-0.1)
    with pytest.raises(HelipError, match=r"optim\.layer_decay is 1\.5"):
        OptimSettings(layer_decay=1.5)


def test_optimizer_takes_betas_and_eps_from_the_settings():
    optimizer = build_optimizer(torch.nn.Linear(2, 2), OptimSettings(betas=[0.9, 0.999], eps=1e-8))
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["eps"] == 1e-8
    with pytest.raises(HelipError, match="no trainable"):
        build_optimizer(torch.nn.ReLU(), OptimSettings())
