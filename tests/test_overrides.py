"""Shard ranges on the command line, as users of webdataset and open_clip type them."""

import os
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from helip.cli import ROOT
from helip.errors import HelipError
from helip.overrides import readable

RANGE = "/data/cc3m/{00000..00331}.tar"


@pytest.mark.parametrize("key", ["dataset.path", "+dataset.path", "++dataset.path"])
def test_a_range_reaches_hydra_as_text(key: str) -> None:
    (argument,) = readable([f"{key}={RANGE}"])
    override = OverridesParser.create().parse_override(argument)
    assert override.key_or_group == "dataset.path" and override.value() == RANGE
    assert readable([argument]) == [argument]  # the ranks get it a second time


def test_ranges_in_a_list_and_in_a_sweep() -> None:
    parser = OverridesParser.create()
    (argument,) = readable([f"dataset.path=[{RANGE},/b,{RANGE}]"])
    assert parser.parse_override(argument).value() == [RANGE, "/b", RANGE]
    (argument,) = readable([f"dataset.path={RANGE},/b"])
    sweep = parser.parse_override(argument)
    assert [getattr(one, "text", one) for one in sweep.sweep_iterator()] == [RANGE, "/b"]


@pytest.mark.parametrize("name", ["model.name=hf:F", "model.name=local-dir:F", "+model.config=F.json"])
def test_a_model_of_its_own_is_chosen_on_the_side_of_a_flag_that_names_it(name: str) -> None:
    assert readable(["-m", "seed=1", name]) == ["-m", "seed=1", "model=any", name]
    assert readable([name, "seed=1", "-m"]) == ["model=any", name, "seed=1", "-m"]
    assert readable(["-m", name, "model=rn50"]) == ["-m", name, "model=rn50"]


@pytest.mark.parametrize(
    "argument",
    ["-m", "helip.topk=5,10", "evaluation.sets={a: 1}", f"dataset.path='{RANGE}'", f'dataset.path="{RANGE}"', "a=b=c"],
)
def test_other_arguments_stay_as_they_are(argument: str) -> None:
    assert readable([argument]) == [argument]


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("helip.schedule=anneal", "schedule=anneal"),
        ("train.loss=clip,siglip", "loss=clip,siglip"),
        ("helip.plan='mine'", "plan='mine'"),
        ("helip.margin=choice(hnml,none)", "margin=choice(hnml,none)"),
        ("helip.margin.weight=0.3", "helip.margin.weight=0.3"),
        ("+helip.plan.seed=1", "+helip.plan.seed=1"),
        ("helip.plan={_target_: a.B}", "helip.plan={_target_: a.B}"),
    ],
)
def test_a_part_is_chosen_by_its_place(typed: str, understood: str) -> None:
    assert readable([typed]) == [understood]


def test_what_a_shell_makes_of_braces_is_refused() -> None:
    """Hydra would silently use only the last shard."""
    spread = [f"dataset.path=/data/{number:05d}.tar" for number in range(4)]
    with pytest.raises(HelipError, match=r"dataset\.path is given 4 times, from /data/00000\.tar to /data/00003\.tar"):
        readable([*spread, "helip.topk=5"])
    again = [spread[0], "helip.topk=5", spread[0], "helip.topk=10"]
    assert readable(again) == again


def test_the_programs_say_so() -> None:
    command = [sys.executable, "mine.py", "dataset=folder", "dataset.path=/a/0.tar", "dataset.path=/a/1.tar"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: dataset.path is given 2 times") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("causes", ["0", "1"])
@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("evaluation.sets={a: 1}", "evaluation.sets holds settings of its own and cannot be replaced"),
        ("evaluation.sets=[a]", "Error merging override evaluation.sets=[a]: Cannot merge DictConfig with ListConfig"),
    ],
)
def test_a_group_that_is_overridden_as_a_whole(override: str, sentence: str, causes: str) -> None:
    """With OC_CAUSE=1, and under a debugger, an error of OmegaConf may be its own cause."""
    command = [sys.executable, "evaluate.py", override]
    environment = os.environ | {"OC_CAUSE": causes}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and result.stderr.startswith(f"error: {sentence}"), result.stderr
