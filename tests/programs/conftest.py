"""One small world for all tests of programs: shards, a tiny model, and the programs called in this process."""

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import hydra
import open_clip
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from helip.cli import CONF, launch, register_resolvers
from helip.config import read
from helip.report.contact_sheet import contact_sheet
from helip.report.mining_report import draw_pictures
from tests.samples import write_shards

MODEL = "tiny-pipeline-test"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
        "patch_dropout": 0.25,  # so that a step depends on the random state
    },
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
TRAIN, VAL = 32, 8  # rows of the world's parts


@dataclass
class Result:
    """Exit status, output and run folder of a program."""

    status: int
    out: str
    err: str
    folder: Path  # of the run

    @property
    def errors(self) -> list[str]:
        """The error messages on standard error."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


def no_sheet(path: Path, *_: object, **__: object) -> Path:
    """Draws nothing, because that takes four seconds; tests/report tests it."""
    return path


def is_setting(argument: str) -> bool:
    """Whether an argument is a setting; Hydra's flags must come before the settings."""
    return not argument.startswith("-")


def call(name: str, folder: Path, *overrides: str, draw: bool = False, run: Path | None = None) -> Result:
    """Run `python <name>.py <overrides>` inside this process, with its run folder in `folder`, or in `run` again."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    run = run or folder / f"{name}-{len(list(folder.glob(f'{name}-*')))}"
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none", f"hydra.run.dir={run}"]
    run.mkdir(parents=True, exist_ok=True)
    with (
        mock.patch.object(sys, "argv", [f"{name}.py", *sorted(overrides, key=is_setting), *quiet]),
        mock.patch.dict(os.environ),
        mock.patch("helip.programs.mining_summary.contact_sheet", contact_sheet if draw else no_sheet),
        mock.patch("helip.programs.mining_summary.draw_pictures", draw_pictures if draw else no_sheet),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            launch(name)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
            print(stop.code if isinstance(stop.code, str) else "", file=err)
    return Result(status, out.getvalue(), err.getvalue(), run)


def compose(name: str, *overrides: str) -> dict[str, Any]:
    """The resolved configuration of a program, as its stage gets it."""
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = OmegaConf.to_container(hydra.compose(name, list(overrides)), resolve=True, throw_on_missing=True)
    return config


def settings(name: str, *overrides: str) -> Any:
    """The typed settings of a program."""
    return read(name, compose(name, *overrides), instantiate)


@dataclass
class World:
    """Shards and a model, and the overrides that point a program at them.

    Attributes:
        shards: a folder with 00000.tar to 00003.tar; the first three are the training part.
    """

    folder: Path
    shards: Path
    weights: Path
    overrides: list[str]

    def run(
        self, name: str, *overrides: str, data: bool = True, draw: bool = False, again: Path | None = None
    ) -> Result:
        """A run in a folder of its own, or in that of an earlier run; the paper's settings unless others are named."""
        settings = self.overrides if data else self.places
        preset = [] if any(one.startswith("helip=") for one in (*settings, *overrides)) else ["helip=paper"]
        return call(name, self.folder / "runs", *settings, *preset, *overrides, draw=draw, run=again)

    @property
    def places(self) -> list[str]:
        return [f"paths.artifacts={self.folder}/artifacts", f"paths.runs={self.folder}/runs", "trainer=cpu"]


def data_overrides(shards: Path) -> list[str]:
    return [
        "dataset=folder",
        f"dataset.path={shards}",
        "dataset.parts.train=0:3",
        "+dataset.parts.val=3:4",
        "dataset.evaluators=[{kind: retrieval, part: val}]",
        "encoders=clip",
        "data.batch_size=8",
        "data.workers=0",
        "data.window=2",
        "helip.topk=5",
    ]


@pytest.fixture(scope="session")
def model_weights(tmp_path_factory) -> Path:
    """The tiny model known to open_clip by name, and its weights."""
    folder = tmp_path_factory.mktemp("model")
    (folder / f"{MODEL}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{MODEL}.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model(MODEL).state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, [12, 10, 10, VAL])
    return folder


@pytest.fixture(scope="session")
def make_world(model_weights: Path, shards: Path) -> Callable[[Path, Sequence[str]], World]:
    def make(folder: Path, more: Sequence[str] = ()) -> World:
        model = [f"model.name={MODEL}", f"model.pretrained={model_weights}"]
        world = World(folder, shards, model_weights, [])
        world.overrides = [*data_overrides(shards), *model, *world.places, *more]
        return world

    return make


@pytest.fixture(scope="session")
def world(make_world, tmp_path_factory) -> World:
    """Mined and trained once; tests read it, or add runs of their own."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def fresh(make_world, tmp_path: Path) -> World:
    """Nothing mined yet."""
    return make_world(tmp_path)


@pytest.fixture(scope="session")
def mined(world: World) -> Result:
    result = world.run("mine", draw=True)
    assert result.status == 0, result.err
    return result


@pytest.fixture(scope="session")
def trained(world: World, mined: Result) -> Result:
    """`python train.py` for six steps of four targets over 32 rows."""
    result = world.run(
        "train", "train.max_steps=6", "train.checkpoint_every=3", "train.log_every=1", "train.evaluate=end"
    )
    assert result.status == 0, result.err
    return result
