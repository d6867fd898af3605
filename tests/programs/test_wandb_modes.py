"""A training with mined hard pairs and logger=wandb ends well in every mode of W&B, with its public interface."""

import json
import re
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import wandb

from tests.programs.conftest import World

STEPS = ("logger=wandb", "train.max_steps=1", "train.evaluate=end", "train.skip_finished=false")
ROOT = Path(__file__).parents[2]
NAMES = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_DISABLED", "WANDB_IDENTITY_TOKEN_FILE")


@pytest.fixture
def environment(monkeypatch, tmp_path: Path):
    """Nobody is logged in, and W&B reads the environment anew."""
    wandb.teardown()
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield monkeypatch
    wandb.teardown()


@pytest.mark.parametrize("mode", ["disabled", "offline", "dryrun", None])
def test_a_mined_training_ends_well(world: World, environment, mode: str | None) -> None:
    if mode:
        environment.setenv("WANDB_MODE", mode)
    result = world.run("train", *STEPS)
    assert result.status == 0 and result.errors == [], result.err
    kept = list(result.folder.glob("wandb/offline-run-*"))
    assert len(kept) == (mode != "disabled")
    assert ("W&B is off" in result.out) == (mode == "disabled")
    assert ("nobody is logged in" in result.out) == (mode is None)


@pytest.mark.parametrize("broken", [False, True])
def test_online_the_index_is_an_input_and_the_training_does_not_wait_for_it(
    world: World, environment, broken: bool
) -> None:
    """With a replacement of W&B, whose upload ends after the training."""
    run, over, used = mock.create_autospec(wandb.Run, instance=True), threading.Event(), threading.Event()
    run.settings, run.summary, run.config = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()

    def upload(artifact: wandb.Artifact) -> None:
        over.wait(30)
        used.set()
        if broken:
            raise wandb.errors.CommError("gone")  # pyright: ignore[reportAttributeAccessIssue]

    run.use_artifact.side_effect = upload
    environment.setattr("helip.tracking.dashboards.choose_mode", lambda: ("online", ""))
    environment.setattr(wandb, "init", mock.MagicMock(return_value=run))
    result = world.run("train", *STEPS)
    assert result.status == 0, result.err
    assert not used.is_set()
    over.set()
    assert used.wait(10)
    (artifact,) = run.use_artifact.call_args.args
    assert artifact.type == "hard_pairs" and artifact.name.startswith("hard-pairs-folder-joint-")
    (named,) = [call.args[0]["uses"] for call in run.config.update.call_args_list if "uses" in call.args[0]]
    folder = json.loads((result.folder / "results.json").read_text())["hard_pairs"]
    assert named == {"artifact": artifact.name, "digest": artifact.digest, "folder": folder}
    private = [call[0] for call in run.method_calls if re.match(r"_(?!_)", call[0])]
    assert private == []


def test_a_server_that_refuses_leaves_the_run_on_disk(world: World, environment) -> None:
    begin = wandb.init

    def refuse(mode: Any, **arguments):
        if mode == "online":
            raise wandb.errors.CommError("401 Unauthorized")  # pyright: ignore[reportAttributeAccessIssue]
        return begin(mode=mode, **arguments)

    environment.setattr("helip.tracking.dashboards.choose_mode", lambda: ("online", ""))
    environment.setattr(wandb, "init", refuse)
    result = world.run("train", *STEPS)
    assert result.status == 0 and "W&B cannot be used (401 Unauthorized)" in result.out, result.err


def test_no_private_attribute_of_wandb_is_named() -> None:
    source = (ROOT / "helip/tracking/dashboards.py").read_text(encoding="utf-8")
    assert re.findall(r"(?:\brun|wandb|shared|artifact)\._\w+", source) == []
