"""Settings of training that change what is trained or exported, each from its name in the configuration."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import open_clip
import pytest
import torch

from helip.programs.continued import decisive
from helip.programs.train import TrainingSettings
from helip.training.resume import auto_checkpoint, find_checkpoint
from helip.training.resume_guard import OURS
from tests.programs.conftest import MODEL, Result, World

RESUMABLE = ("train.max_steps=6", "train.checkpoint_every=2", "train.evaluate=end")


def train(world: World, *overrides: str) -> tuple[Result, dict[str, torch.Tensor]]:
    """Two steps and the exported weights."""
    steps = [] if any("max_steps" in one for one in overrides) else ["train.max_steps=2"]
    result = world.run("train", "train.log_every=1", "optim.lr=1e-2", "optim.warmup=0", *steps, *overrides)
    assert result.status == 0, result.err
    return result, torch.load(result.folder / "final.pt", weights_only=True)


def moved(world: World, after: dict[str, torch.Tensor]) -> set[str]:
    start = torch.load(world.weights, weights_only=True)
    return {name for name, value in start.items() if not torch.equal(after[name], value)}


def test_locked_towers(world: World, mined: Result) -> None:
    _, after = train(world, "train.lock_image=0", "train.grad_checkpointing=true")
    names = moved(world, after)
    assert names and not [name for name in names if name.startswith("visual.")]
    _, after = train(world, "train.lock_text=0")
    assert any(name.startswith("visual.") for name in moved(world, after))
    assert "token_embedding.weight" not in moved(world, after)


def test_siglip(world: World, mined: Result) -> None:
    refused = world.run("train", "train.loss=siglip", "train.max_steps=1")
    assert refused.status == 1 and "has no logit_bias" in refused.errors[0]
    bias = "+model.arguments.init_logit_bias=-10"
    _, after = train(world, "train.loss=siglip", bias)
    assert after["logit_bias"] != -10
    open_clip.create_model(MODEL, init_logit_bias=-10).load_state_dict(after)
    result, _ = train(world, "train.loss=siglip", bias, "train.checkpoint_every=1")
    evaluated = world.run("evaluate", f"checkpoint={result.folder}/checkpoints/step-000002.ckpt")  # by its description
    assert evaluated.status == 0, evaluated.err


def test_interpolated_export(world: World, mined: Result) -> None:
    result, after = train(world, "export.alpha=0.25")
    start = torch.load(world.weights, weights_only=True)
    checkpoint = torch.load(result.folder / "checkpoints" / "step-000002.ckpt", weights_only=True)
    for name, value in after.items():
        end = checkpoint["state_dict"][f"model.{name}"]
        torch.testing.assert_close(value, 0.75 * start[name] + 0.25 * end)
    assert "alpha 0.25" in result.out and "alpha 0.25" in (result.folder / "metrics.md").read_text()
    refused = world.run("train", "export.alpha=1.5", "train.max_steps=1")
    assert refused.status == 1 and "export.alpha=1.5" in refused.errors[0]


def test_ema(world: World, mined: Result) -> None:
    result, after = train(world, "train.ema=0.5", "train.max_steps=3", "train.checkpoint_every=1")
    checkpoint = torch.load(result.folder / "checkpoints" / "step-000003.ckpt", weights_only=True)
    average, trained = (checkpoint[key] for key in ("state_dict", "current_model_state"))
    name = "text_projection"
    assert torch.equal(after[name], average[f"model.{name}"])
    assert not torch.equal(after[name], trained[f"model.{name}"])


def test_arguments_of_open_clip(world: World, mined: Result) -> None:
    train(world, "+model.arguments.force_patch_dropout=0.0")
    refused = world.run("train", "+model.arguments.force_patch_dropot=0.5", "train.max_steps=1")
    assert refused.status == 1 and "force_patch_dropot" in refused.errors[0]


def test_a_changed_schedule_is_refused_unless_asked_for(world: World, mined: Result) -> None:
    result, _ = train(world, *RESUMABLE)
    refused = world.run("train", "train.max_steps=8", f"train.resume={result.folder}", "optim.lr=1e-2", "seed=3")
    assert refused.status == 1
    assert "train.max_steps was 6 and is 8" in refused.errors[0] and "seed was 0 and is 3" in refused.errors[0]
    assert "hard pairs:" not in refused.out  # before anything is mined or evaluated
    longer, _ = train(world, "train.max_steps=8", f"train.resume={result.folder}", "train.allow_change=true")
    assert (longer.folder / "checkpoints" / "step-000008.ckpt").exists()


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three runs with the same settings, each with a complete checkpoint; the last is the newest."""
    folders = [tmp_path / "runs" / "train" / name for name in ("a", "b", "c")]
    for step, folder in enumerate(folders, start=1):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(settings(tmp_path, resume=None)))
        torch.save(dict.fromkeys(OURS, 0), folder / "checkpoints" / f"step-00000{step}.ckpt")
        time.sleep(0.01)
    return folders


def auto(folder: Path, config: dict, say: Callable[[str], None]) -> Path | None:
    identity = partial(decisive, TrainingSettings)
    return auto_checkpoint(folder, Path(config["paths"]["runs"]), identity(config), identity, say)


def settings(folder: Path, resume: str | None = "auto", **changes: object) -> dict:
    train = {"max_steps": 6, "resume": resume, "log_every": 5}
    return {"train": train, "paths": {"runs": str(folder / "runs")}, "seed": 0} | changes


def test_auto_finds_the_latest_run_with_the_same_settings(runs: list[Path], tmp_path: Path) -> None:
    said: list[str] = []
    new = tmp_path / "runs" / "train" / "new"
    find = lambda **changes: auto(new, settings(tmp_path, **changes), said.append)  # noqa: E731
    assert find() == runs[2] / "checkpoints" / "step-000003.ckpt"
    assert find(seed=1) is None
    assert find(trainer={"devices": 2}) == find()
    (runs[2] / "checkpoints" / "step-000003.ckpt").write_bytes(b"cut off")
    assert find() == runs[1] / "checkpoints" / "step-000002.ckpt"
    assert "step-000003.ckpt is cut off and skipped" in said[-1]
    (runs[1] / "results.json").write_text("{}")  # a finished run is not resumed, nor are older ones
    assert find() is None


def test_auto_prefers_its_own_folder(runs: list[Path], tmp_path: Path) -> None:
    assert auto(runs[0], settings(tmp_path), print) == runs[0] / "checkpoints" / "step-000001.ckpt"


def test_a_cut_off_file_that_is_named_is_a_sentence(runs: list[Path]) -> None:
    path = runs[0] / "checkpoints" / "step-000001.ckpt"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"step-000001\.ckpt is truncated: give"):
        find_checkpoint(path)


def test_schedules_sources_and_captions(world: World, mined: Result) -> None:
    weights = "dataset.weights=[{shards: '0:1', weight: 2}]"
    result, _ = train(world, "helip.schedule=anneal", weights)
    assert "each of 44 targets" in result.out  # 12 rows twice and 20 once
    train(world, "helip.schedule=score", "data.caption={txt: 0.5, captions: 0.5}")
    for override, sentence in (
        ("helip.schedule=best", "there is no helip.schedule=best; there are anneal, score, uniform"),
        ("dataset.weights=[{shards: '0:1'}]", "dataset.weights has"),
    ):
        refused = world.run("train", override, "train.max_steps=1")
        assert refused.status == 1 and sentence in refused.errors[0]


def test_several_folders_are_one_dataset(world: World) -> None:
    first, last = (f"{world.shards}/{{{part}}}.tar" for part in ("00000..00001", "00002..00003"))
    result = world.run("mine", f"dataset.path=['{first}','{last}']", "dataset.parts.train=0:3")
    assert result.status == 0, result.err
