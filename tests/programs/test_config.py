"""Every YAML of conf/ composes and fits its classes, without loading weights."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_method, instantiate

from helip.cli import ROOT
from helip.config import read
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.programs.requests import mining_request
from helip.programs.training import make_loggers
from helip.training.losses import HelipLoss, HelipSigLipLoss
from helip.training.margins import ConstantMargin, HardNegativeMargin, Margin, SimilarityMargin
from tests.programs.conftest import compose, settings

# Settings that an option needs.
GIVEN = {
    "dataset=folder": ["dataset.path=/data"],
    "dataset=none": ["encoders=precomputed", "encoders.image=a.npy", "encoders.text=b.npy"],
    "encoders=precomputed": ["encoders.image=a.npy", "encoders.text=b.npy"],
    "encoders=any": ["encoders.image.model=test_vit", "encoders.text.model=all-MiniLM-L6-v2"],
    "experiment=cc3m_rn50": ["model.pretrained=own.pt"],
    "experiment=cc3m_vit_b_16": ["model.pretrained=own.pt"],
}
TRAIN_ONLY = {"loss"}


def options() -> list[str]:
    """GROUP=OPTION of every YAML in a group, without those of users."""
    files = [path for path in sorted((ROOT / "conf").glob("*/*.yaml")) if path.parent.name not in ("local", "hydra")]
    return [f"{path.parent.name}='{path.stem}'" for path in files]


def understood(name: str, *overrides: str) -> None:
    """Read the settings of a program, and check that encoders accept their arguments."""
    created: list[str] = []

    def make(node: dict[str, Any]) -> Any:
        target = get_method(node["_target_"])
        inspect.signature(target).bind(**{name: value for name, value in node.items() if name != "_target_"})
        created.append(node["_target_"])
        return None if node["_target_"].startswith("helip.embedding.") else instantiate(node)  # weights of the network

    config = compose(name, *overrides)
    asked = read(name, config, make)
    assert "train" in asked.dataset.parts
    if asked.helip.mines:
        request = mining_request(asked)
        if isinstance(request.embedding, Precomputed):
            assert request.embedding.image == Path("a.npy")
        else:
            json.dumps(request.embedding.identity)
            if asked.encoders.name != "clip":
                request.embedding.create()
                assert len(created) == 2
    evaluation = asked.evaluation
    assert len(evaluation.build()) == len(evaluation.evaluators) + len(evaluation.sets)
    asked.helip.margin()
    if name == "train":
        asked.train.loss()


@pytest.mark.parametrize("program", ["mine", "train", "evaluate"])
def test_the_defaults(program: str) -> None:
    understood(program)
    config = compose(program)
    assert config["dataset"]["name"] == "emoji" and config["encoders"]["name"] == "clip"
    assert Path(config["dataset"]["path"]).is_dir()


@pytest.mark.parametrize("option", options())
def test_every_option_of_every_group(option: str) -> None:
    given = GIVEN.get(option.replace("'", ""), [])
    group = option.split("=")[0]
    understood("train", option, *given)
    if group not in TRAIN_ONLY and group != "experiment":
        understood("mine", option, *given)
        understood("evaluate", option, *given)


def test_every_group_has_a_file_that_is_tested() -> None:
    tested = {option.split("=")[0] for option in options()}
    assert {"dataset", "encoders", "model", "helip", "margin", "plan", "evaluation", "trainer", "logger"} <= tested


def test_the_same_overrides_name_the_same_artefacts() -> None:
    """mine.py and train.py share conf/base.yaml."""
    overrides = ["dataset=flickr8k", "encoders=effnet_minilm", "helip.topk=7"]
    requests = [mining_request(settings(name, *overrides)) for name in ("mine", "train")]
    assert requests[0].settings() == requests[1].settings()
    other = mining_request(settings("mine", *overrides, "search.depth=7"))
    assert other.settings() == requests[0].settings()  # neither topk nor depth names the artefact
    drafted = mining_request(settings("mine", *overrides, "data.embed_draft=true"))
    assert drafted.embedding.identity == {**requests[0].embedding.identity, "draft": True}


def test_a_dataset_names_its_encoders_and_the_user_may_choose_others() -> None:
    assert compose("mine", "dataset=cc3m")["encoders"]["name"] == "dinov2_mpnet"
    assert compose("mine", "dataset=cc3m", "encoders=dino_mpnet")["encoders"]["name"] == "dino_mpnet"
    paper = compose("mine", "dataset=cc3m", "encoders=dino_mpnet")["helip"]
    assert paper["min_similarity"] == 0.5 and compose("mine")["helip"]["min_similarity"] == 0.0


def test_arms_of_the_method() -> None:
    released = compose("train", "helip=released")["helip"]
    assert (released["topk"], released["near_duplicate"], released["min_similarity"]) == (50, 0.98, 0.0)
    assert released["margin_weight"] == 0.0 and compose("train", "helip=released")["search"]["depth"] == 100
    assert compose("train", 'helip="off"')["helip"]["score"] == "off"
    assert compose("train")["helip"]["margin_weight"] == 1.0 and compose("train")["helip"]["p"] == 1


@pytest.mark.parametrize(
    ("override", "kind", "held"),
    [
        ("margin=hnml", HardNegativeMargin, {"weight": 1.0, "symmetric": False}),
        ("margin=constant", ConstantMargin, {"m": 0.6}),
        ("margin=similarity", SimilarityMargin, {"gamma": 0.25, "of": "text", "permuted": False}),
        ("margin=none", Margin, {}),
    ],
)
@pytest.mark.parametrize(("name", "loss"), [("clip", HelipLoss), ("siglip", HelipSigLipLoss)])
def test_a_loss_with_its_margin(override: str, kind: type, held: dict[str, Any], name: str, loss: type) -> None:
    asked = settings("train", override, f"loss={name}", "helip.mask_duplicates=false").train
    made = asked.loss()
    assert type(made) is loss and type(made.margin) is kind and not made.mask_duplicates
    assert {name: getattr(made.margin, name) for name in held} == held


def test_loggers(tmp_path: Path) -> None:
    logger = settings("train").logger
    assert [type(one).__name__ for one in make_loggers(logger.csv, tmp_path)] == ["MetricsLog"]
    assert make_loggers(False, tmp_path) == [] and logger.wandb is None
    for program in ("mine", "train", "evaluate"):
        wandb = settings(program, "logger=wandb", "logger.wandb.tags=[a]").logger.wandb
        assert wandb is not None and (wandb.project, wandb.tags) == ("helip", ["a"])
    with pytest.raises(HelipError, match=r"logger\.wandb\.project"):
        settings("train", "logger=wandb", "logger.wandb.project=3")


def test_help_reads_well_without_torch() -> None:
    """`--help` imports nothing heavy, because it must be quick."""
    check = (
        "import sys; sys.argv = ['train.py', '--help']\n"
        "from helip.cli import launch\n"
        "try: launch('train')\n"
        "finally: print(sorted({'torch', 'open_clip', 'pytorch_lightning', 'faiss'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1] == "[]"
    assert lines[0] == "Continue the training of a CLIP model with hard pairs mined from its own data."
    datasets = "cc12m, cc3m, emoji, flickr8k, folder, icons, icons_120k, icons_2k, icons_unseen, none, yfcc15m"
    assert f"dataset: {datasets}" in result.stdout
    assert "topk: 20" in result.stdout and "max_steps: null" in result.stdout
