"""The role of a setting, from which identities, resume checks and records follow."""

from dataclasses import dataclass, fields
from typing import Any, get_type_hints

import pytest

from helip.config import TREES
from helip.errors import HelipError
from helip.programs.continued import decisive
from helip.training.resume_guard import FIRM, changes, refusal
from helip.training.settings import TrainSettings
from helip.typed import operation, plain, result, role_of, settings_of
from tests.programs.conftest import compose, settings


def without_role(tree: type, name: str) -> list[str]:
    """Dotted names of the fields of a tree that have no role."""
    found, hints = [], get_type_hints(tree)
    for one in fields(tree):
        inner = settings_of(hints[one.name])
        found += [f"{name}.{one.name}"] if role_of(one) is None else []
        found += without_role(inner, f"{name}.{one.name}") if inner else []
    return found


@pytest.mark.parametrize("program", TREES)
def test_every_field_has_its_role(program: str) -> None:
    assert without_role(TREES[program], program) == []


def test_a_field_without_a_role_is_found() -> None:
    @dataclass(frozen=True)
    class Careless(TrainSettings):
        speed: float = 1.0

    assert without_role(Careless, "train") == ["train.speed"]


@pytest.mark.parametrize("program", TREES)
def test_the_tree_mirrors_conf(program: str) -> None:
    """The tree has the settings of the files, with their values, and no others."""
    assert plain(settings(program)) == compose(program)


def test_a_new_result_counts_and_a_new_operation_does_not() -> None:
    """Fields that are added to the settings of training, in a record and when a run is resumed."""

    @dataclass(frozen=True)
    class More(TrainSettings):
        sharper: float = result(default=0.0)
        louder: int = operation(default=0)

    tree = TREES["train"]
    more: Any = dataclass(frozen=True)(type("Tree", (tree,), {"__annotations__": {"train": More}, "train": result()}))
    old = compose("train")

    def asked(**changed: float) -> dict[str, Any]:
        return old | {"train": old["train"] | changed}

    assert decisive(more, old) == decisive(more, asked(sharper=0.0))  # a record that is older than the setting
    assert decisive(more, old) != decisive(more, asked(sharper=1.0))
    assert decisive(more, old) == decisive(more, asked(louder=1))
    before, loud, sharp = (
        {f"train.{name}": value for name, value in decisive(more, one)["train"].items()}
        for one in (old, asked(louder=1), asked(sharper=1.0))
    )
    assert refusal(changes(before, loud), False) is None
    assert "train.sharper was 0.0 and is 1.0" in str(refusal(changes(before, sharp), False))


def test_what_is_firm_is_said_by_the_fields() -> None:
    assert set(FIRM) == {
        "optim.layer_decay", "train.lock_image", "train.lock_text", "train.logit_scale", "model.name",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "operates"),
    [("data.workers=3", True), ("trainer.devices=2", True), ("+trainer.profiler=simple", True), ("paths.runs=x", True),
     ("dataset.path=/elsewhere", True), ("train.evaluate=end", True), ("data.batch_size=8", False), ("seed=1", False),
     ("helip.margin=none", False), ("+trainer.gradient_clip_val=1.0", False), ("dataset.parts.train=0:2", False),
     ("+callbacks.ema={_target_: a.B}", False)],
)  # fmt: skip
def test_what_a_resumed_run_must_share(override: str, operates: bool) -> None:
    override = override.replace("helip.margin", "margin")
    changed = changes(settings("train").fixed("f"), settings("train", override).fixed("f"))
    assert (changed == {}) == operates, changed


def test_words_of_older_checkpoints_still_compare() -> None:
    now = settings("train").fixed("f")
    old = {"train.loss": "clip", "helip.schedule": "uniform", "optim.beta1": 0.9, "optim.beta2": 0.98}
    assert changes(old, now | {"optim.betas": [0.9, 0.98]}) == {}
    other = old | {"train.loss": "siglip", "optim.beta2": 0.999}
    assert set(changes(other, now | {"optim.betas": [0.9, 0.98]})) == {"train.loss", "optim.betas"}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("+trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches is refused: it averages the losses"),
        ("+trainer.limit_train_batches=2", "trainer.limit_train_batches is refused: a training has the fixed number"),
        ("+trainer.gradient_clip_value=2", "there is no setting trainer.gradient_clip_value, did you mean"),
        ("+train.sped=1", "there is no setting train.sped"),
        ("train.epochs=x", "train.epochs=x must be a whole number"),
        ("train.ema=1.0", "train.ema=1.0 must be null, or a decay between 0 and 1"),
        ("train.ema=0.0", "train.ema=0.0 must be null"),
        ("train.anchor=0", "train.anchor=0 must be null, or a weight above 0"),
        ("train.checkpoint_every=0", "train.checkpoint_every=0 must be at least 1"),
        ("train.checkpoint_minutes=0", "train.checkpoint_minutes=0 must be null, or above 0"),
        ("train.keep_checkpoints=0", "train.keep_checkpoints=0 must be at least 1, or -1"),
    ],
)
def test_what_is_refused_says_why(override: str, sentence: str) -> None:
    with pytest.raises(HelipError, match=sentence):
        settings("train", override)
