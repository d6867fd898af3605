"""A file of another program as a checkpoint: read, or refused with a message that names its kind."""

import argparse
import collections
import datetime
import os
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helip.errors import HelipError
from helip.models.checkpoints import clip_state, load_clip_weights, read_checkpoint
from helip.training.resume import find_checkpoint
from tests.programs.conftest import World
from tests.training.tiny import tiny_model

HARMLESS: dict[str, Any] = {
    "numpy scalar": np.float64(0.5),
    "numpy float32": np.float32(0.5),
    "numpy integer": np.int64(3),
    "numpy array": np.arange(3),
    "namespace": argparse.Namespace(lr=1e-3, loss=np.float64(2.0)),
    "path": pathlib.Path("runs"),
    "date": datetime.datetime(2026, 1, 2),
    "counter": collections.Counter("aab"),
    "ordered dict": collections.OrderedDict(a=1),
    "device": torch.device("cpu"),
    "size": torch.Size([2]),
}


class Stranger:
    """An object of an unknown library."""


class Hostile:
    """Runs a command when it is read."""

    def __reduce__(self):
        return os.system, ("touch /tmp/helip-was-here",)


@pytest.fixture
def state(tmp_path: Path) -> dict[str, torch.Tensor]:
    return tiny_model(tmp_path, seed=3).state_dict()


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_objects_beside_the_weights_are_read(tmp_path: Path, state, name: str) -> None:
    torch.save({"state_dict": state, "beside": HARMLESS[name]}, tmp_path / "a.pt")
    model = tiny_model(tmp_path, seed=5)
    load_clip_weights(model, tmp_path / "a.pt")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("beside", "name"),
    [
        (Stranger(), "test_foreign_checkpoints.Stranger"),
        (Hostile(), "system"),
        (collections.defaultdict(list, a=[1]), "(defaultdict|list)"),
    ],
)
def test_other_objects_are_named_and_not_run(tmp_path: Path, state, beside: Any, name: str) -> None:
    torch.save({"state_dict": state, "beside": beside}, tmp_path / "a.pt")
    with pytest.raises(HelipError, match=rf"a\.pt holds a [\w.]*{name} beside its weights") as found:
        read_checkpoint(tmp_path / "a.pt")
    assert "\x1b" not in str(found.value) and "\n" not in str(found.value)
    assert not Path("/tmp/helip-was-here").exists()


def test_no_terminal_escape_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x80\x02\x1b[31mred\x1b[0m.")
    with pytest.raises(HelipError) as found:
        read_checkpoint(tmp_path / "a.pt")
    assert str(found.value).isprintable()


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "model_state", "module", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_layouts_are_read(tmp_path: Path, state, key: str, prefix: str) -> None:
    wrapped = {f"{prefix}{name}": value for name, value in state.items()}
    assert clip_state({key: wrapped, "epoch": 3, "optimizer": {"a": torch.zeros(1)}}).keys() == state.keys()


def test_weights_that_are_not_finite_are_named(tmp_path: Path, state) -> None:
    state = {name: value.clone() for name, value in state.items()}
    state["visual.proj"][0, 0] = float("nan")
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(HelipError, match=r"1 of the \d+ weights in .*a\.pt are not finite, e\.g\. visual\.proj"):
        load_clip_weights(tiny_model(tmp_path), tmp_path / "a.pt")


def foreign(kind: str, state: dict[str, torch.Tensor], path: Path) -> Path:
    """A file of another program."""
    if kind == "safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    epoch = {"epoch": 4, "name": "x", "state_dict": state, "optimizer": {"state": {}}}
    content = {
        "open_clip epoch": epoch,
        "plain weights": state,
        "transformers": {f"text_model.{n}": torch.zeros(2) for n in "ab"} | {"vision_model.a": torch.zeros(2)},
        "lightning": {"state_dict": state, "global_step": 3, "loops": {}, "pytorch-lightning_version": "2.6"},
        "nothing": {"epoch": 3},
        "before zip": epoch,
    }[kind]
    torch.save(content, path, _use_new_zipfile_serialization=kind != "before zip")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("open_clip epoch", "an epoch of another trainer, such as open_clip's (epoch 4)"),
        ("plain weights", "weights alone"),
        ("safetensors", "weights alone"),
        ("transformers", "weights of a transformers CLIP"),
        ("lightning", "weights of another program"),
        ("nothing", "a file without weights"),
        ("before zip", "an epoch of another trainer"),
    ],
)
def test_a_training_goes_on_from_its_own_checkpoints_only(tmp_path: Path, state, kind: str, words: str) -> None:
    path = foreign(kind, state, tmp_path / "epoch_4.pt")
    with pytest.raises(HelipError) as found:
        find_checkpoint(path)
    assert f"{path} is {words}" in str(found.value) and f"model.pretrained={path} begins" in str(found.value)


def test_the_command_says_so(world: World, tmp_path: Path) -> None:
    torch.save({"epoch": 1, "state_dict": {"a": torch.zeros(1)}, "optimizer": {}}, tmp_path / "epoch_1.pt")
    result = world.run("train", "helip=random", "train.max_steps=1", f"train.resume={tmp_path}/epoch_1.pt")
    assert result.status == 1 and len(result.errors) == 1 and "model.pretrained=" in result.errors[0], result.err
