"""The advice, the anchor and the interpolated export through the programs."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from helip.artifacts.datasets import DatasetSpec
from helip.artifacts.shards import ShardIndex
from helip.data.order import TargetOrder
from helip.data.plans.partners import PartnerPlan
from helip.evaluation.clip_embed import ClipEmbed, predict_drive
from helip.models.clip import ModelSpec, create_clip
from helip.programs.advice import embedded, measure, print_advice
from helip.ranks import TrainerSpec, predict_trainer
from tests.programs.conftest import MODEL, TRAIN, Result, World


def about(result: Result) -> dict:
    """The content of results.json besides the metrics."""
    found = json.loads((result.folder / "results.json").read_text())
    return found if "advice" in found else found["about"]


def test_mine_advises_without_a_training(world: World, mined: Result) -> None:
    result = world.run("mine", "advise=true")
    assert result.status == 0, result.err
    h = 5 * 7 / (TRAIN - 1)
    assert f"dose: a random batch of 8 of {TRAIN} rows holds h = {h:.3g} of a row's 5 hardest pairs" in result.out
    assert "ln B on training rows" in result.out and "ln B on held-out rows" in result.out
    assert "with their hard pairs in the batch: loss" in result.out
    assert "advice: hard batches will not help here, because" in result.out
    written = json.loads((result.folder / "advice.json").read_text())
    assert written["dose"] == pytest.approx(h) and written["advice"]["sentence"] in " ".join(result.out.split())
    refused = world.run("train", "train.advise=maybe")
    assert refused.status == 1 and "train.advise=maybe is not one of auto, true, false" in refused.errors[0]


def test_before_a_training_the_dose_is_logged_and_all_else_if_asked_for(world: World, mined: Result) -> None:
    short = world.run("train", "train.max_steps=2", "train.log_every=1")
    assert "dose: a random batch of 8" in short.out and "saturation" not in short.out
    header, first = (short.folder / "metrics.csv").read_text().splitlines()[:2]
    logged = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(logged["train/dose"]) == pytest.approx(5 * 7 / (TRAIN - 1))
    assert {"train/loss_share_of_chance", "train/masked_share", "train/false_negative_suspects"} <= set(logged)
    asked = world.run("train", "train.max_steps=2", "train.log_every=1", "train.advise=true")
    assert "saturation: loss" in asked.out and about(asked)["advice"]["kind"] in (
        "falling",
        "middle",
        "spent",
        "overfit",
    )
    one, other = (torch.load(run.folder / "final.pt", weights_only=True) for run in (short, asked))
    assert all(torch.equal(one[name], other[name]) for name in one), "the pre-flight changed the training"


@pytest.fixture
def embed(world: World, tmp_path: Path) -> ClipEmbed:
    """The start of the world's trainings, on its shards."""
    index = ShardIndex.build(sorted(world.shards.glob("*.tar")))
    trainer = predict_trainer(TrainerSpec(accelerator="cpu"), progress=False)
    dataset = DatasetSpec("world", str(world.shards), {"train": "0:3", "val": "3:4"})
    clip = create_clip(ModelSpec(MODEL, str(world.weights)))
    return ClipEmbed(clip, dataset, index, predict_drive(trainer), tmp_path, torch.device("cpu"), 0, workers=0)


def test_random_states_and_batch_norms_are_left_alone(embed: ClipEmbed) -> None:
    clip = embed.clip
    visual: Any = clip.model.visual
    visual.ln_post = nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.5))
    clip.model.train()
    before = {name: value.clone() for name, value in clip.model.state_dict().items()}
    states: Any = torch.get_rng_state(), random.getstate(), np.random.get_state()
    found = print_advice(embed, embed.usable("train"), None, 5, 8, 0, Console(quiet=True))
    assert found["kind"] and found["with_partners"] is None
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    now: Any = np.random.get_state()
    assert (now[1] == states[2][1]).all() and now[2] == states[2][2]
    assert clip.model.training and visual.ln_post[0].training
    assert all(torch.equal(before[name], value) for name, value in clip.model.state_dict().items())
    again = print_advice(embed, embed.usable("train"), None, 5, 8, 0, Console(quiet=True))
    assert again == found


def test_what_mined_pairs_add_is_measured_on_the_batches_of_the_plan(embed: ClipEmbed) -> None:
    """Compared with the mean loss of the same batches, from the order of the plan."""
    valid = embed.usable("train")
    assert embed.index is not None
    order = TargetOrder(valid, embed.index.starts, seed=0, window=1)
    found = measure(embed, valid, PartnerPlan(order, None, 8), 5, 8, 0, 16)
    batches = [[order[8 * step + place][1] for place in range(8)] for step in range(2)]
    pairs, place = embedded(embed, np.flatnonzero(valid), "by-hand")
    assert found.with_partners is not None
    losses = np.concatenate([pairs.losses(place[batch]) for batch in batches])
    assert found.with_partners.loss == pytest.approx(float(losses.mean()), rel=1e-4)


def test_alpha_is_chosen_on_val(world: World, mined: Result) -> None:
    result = world.run("train", "train.max_steps=2", "optim.lr=1e-2", "optim.warmup=0", "export.alpha=auto")
    assert result.status == 0, result.err
    line = next(line for line in result.out.splitlines() if line.startswith("export.alpha=auto: "))
    alpha = float(line.split()[1].rstrip(","))
    values = dict(pair.split(": ") for pair in line.partition("(")[2].rstrip(")").split(", "))
    assert "by recall@1 on val" in line and len(values) == 11
    assert float(values[f"{alpha:g}"]) == max(map(float, values.values()))
    start = torch.load(world.weights, weights_only=True)
    end = torch.load(result.folder / "checkpoints" / "step-000002.ckpt", weights_only=True)["state_dict"]
    for name, value in torch.load(result.folder / "final.pt", weights_only=True).items():
        torch.testing.assert_close(value, (1 - alpha) * start[name] + alpha * end[f"model.{name}"])
    drift = about(result)["drift"]
    assert drift["before"] == {"drift/image": 0, "drift/text": 0} and drift["after"]["drift/image"] > 0
    assert "drift/image (%)" in (result.folder / "metrics.md").read_text()
    refused = world.run("train", "export.alpha=auto", "~dataset.parts.val", "dataset.evaluators=[]")
    assert refused.status == 1 and "export.alpha=auto chooses on a validation part" in refused.errors[0]


def test_an_anchored_run_is_resumed_to_the_bit(world: World, mined: Result) -> None:
    settings = (
        "train.anchor=10",
        "train.max_steps=4",
        "train.checkpoint_every=2",
        "train.evaluate=end",
        "optim.lr=1e-2",
    )
    whole = world.run("train", *settings)
    assert whole.status == 0, whole.err
    half = whole.folder / "checkpoints" / "step-000002.ckpt"
    resumed = world.run("train", *settings, f"train.resume={half}")
    assert resumed.status == 0, resumed.err
    one, other = (torch.load(run.folder / "final.pt", weights_only=True) for run in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    free = world.run("train", *settings[1:])
    assert about(free)["drift"]["after"]["drift/text"] > about(whole)["drift"]["after"]["drift/text"]
    refused = world.run("train", *settings[1:], f"train.resume={half}")
    assert refused.status == 1 and "train.anchor was 10 and is None" in refused.errors[0]
    for setting, sentence in (
        ("train.anchor=-1", "train.anchor=-1"),
        ("train.logit_scale=1000", "train.logit_scale is 1000"),
    ):
        refused = world.run("train", setting)
        assert refused.status == 1 and sentence in refused.errors[0]
    refused = world.run("train", "train.anchor=1", "model.pretrained=null")
    assert refused.status == 1 and "would hold the model to random weights" in refused.errors[0]
