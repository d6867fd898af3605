"""best.ckpt: its step, a resumed run, and the metrics that may not select it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from helip.errors import HelipError
from helip.evaluation.best import BestCheckpoint, better, check_choice
from helip.evaluation.callback import EvaluationCallback
from helip.evaluation.embed import Evaluator
from helip.evaluation.retrieval import Retrieval
from helip.evaluation.samples import Sampled
from helip.evaluation.suite import build_evaluators


class Module(pl.LightningModule):
    """A module whose weight is the number of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, _):
        return -self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Bare:
    """An Embed that is not used."""

    transform = device = images = texts = classifier = fields = captions = None


@dataclass(frozen=True)
class Scripted(Evaluator):
    """An evaluator with a given metric for each step."""

    by_step: tuple[float, ...] = ()
    module: Any = None

    def run(self, embed: Any) -> dict[str, Sampled]:
        return {"recall": Sampled(np.array([self.by_step[int(self.module.weight.item()) - 1]]))}


def fit(folder: Path, by_step: tuple[float, ...], steps: int, resume: Path | None = None, metric: str = "val/recall"):
    module = Module()
    evaluation = EvaluationCallback(
        [Scripted("val", by_step=by_step, module=module)], lambda *_: cast(Any, Bare()), every=1
    )
    best = BestCheckpoint(folder, metric)
    own = ModelCheckpoint(folder, "step-{step}", monitor="val/recall", mode="max", every_n_train_steps=1, save_top_k=1)
    last = ModelCheckpoint(folder, "last", every_n_train_steps=1)
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=[evaluation, best, own, last],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = DataLoader(torch.zeros(40, 1), batch_size=4)  # type: ignore[arg-type]
    trainer.fit(module, data, ckpt_path=resume, weights_only=False)
    return best, own, trainer


def kept(folder: Path) -> float:
    """The step whose weights are in best.ckpt."""
    return torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]["weight"].item()


def test_the_best_step_is_kept_and_lightnings_own_callback_agrees(tmp_path):
    best, own, trainer = fit(tmp_path, (0.2, 0.7, 0.7, 0.1), steps=4)
    assert (best.value, best.step, kept(tmp_path)) == (0.7, 2, 2.0)  # the first of equal values
    assert torch.load(own.best_model_path, weights_only=False)["state_dict"]["weight"].item() == 2.0
    assert trainer.callback_metrics["val/recall"].item() == 0.1  # the latest


def test_a_resumed_run_keeps_the_best_in_its_own_folder(tmp_path):
    fit(tmp_path / "one", (0.2, 0.7, 0.1), steps=3)
    best, *_ = fit(tmp_path / "two", (0, 0, 0, 0.5, 0.6), steps=5, resume=tmp_path / "one" / "last.ckpt")
    assert (best.value, best.step, kept(tmp_path / "two")) == (0.7, 2, 2.0)
    best, *_ = fit(tmp_path / "three", (0, 0, 0, 0.5, 0.8), steps=5, resume=tmp_path / "one" / "last.ckpt")
    assert (best.value, best.step, kept(tmp_path / "three")) == (0.8, 5, 5.0)


def test_a_run_killed_after_its_last_checkpoint_does_not_lose_a_better_file(tmp_path):
    fit(tmp_path, (0.2, 0.5), steps=2)
    (tmp_path / "last.ckpt").rename(tmp_path / "older.ckpt")
    fit(tmp_path, (0.2, 0.5, 0.9), steps=3, resume=tmp_path / "older.ckpt")
    best, *_ = fit(tmp_path, (0.2, 0.5, 0.8, 0.7), steps=4, resume=tmp_path / "older.ckpt")  # back at step 2
    assert (best.value, best.step, kept(tmp_path)) == (0.9, 3, 3.0)


def test_a_best_file_that_is_gone_is_said_and_chosen_anew(tmp_path):
    fit(tmp_path / "one", (0.2, 0.7), steps=2)
    (tmp_path / "one" / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match="one/best.ckpt of the earlier part of this run is gone"):
        best, *_ = fit(tmp_path / "two", (0, 0, 0.1), steps=3, resume=tmp_path / "one" / "last.ckpt")
    assert (best.value, best.step) == (0.1, 3)


def test_another_metric_begins_anew(tmp_path):
    fit(tmp_path / "one", (0.2, 0.7), steps=2)
    best, *_ = fit(tmp_path / "two", (0, 0, 9.0), steps=3, resume=tmp_path / "one" / "last.ckpt", metric="val/x_rank")
    assert best.value is None and not (tmp_path / "two" / "best.ckpt").exists()  # no evaluator measures val/x_rank


def test_better():
    assert better("val/i2t_recall@1", 0.2, 0.1) and not better("val/i2t_recall@1", 0.1, 0.1)
    assert better("val/t2i_mean_rank", 3, 4) and not better("val/t2i_mean_rank", 4, 3)
    assert better("val/x", 0.0, None) and not better("val/x", math.nan, None) and not better("val/x", math.nan, 0.1)


LINES = [{"kind": "retrieval", "part": "val"}, {"kind": "retrieval", "part": "test"}]
SETS = {
    "cifar10": {"kind": "zeroshot", "path": "/data/wds_vtab-cifar10"},
    "probe": {"kind": "probe", "path": "/data/x", "split": "val"},
    "sugarcrepe": {"kind": "sugarcrepe", "path": "/data", "images": "/data"},
}


@pytest.mark.parametrize("metric", ["val/i2t_recall@1", "probe/probe_top1"])
def test_a_validation_part_may_choose(metric):
    check_choice(metric, build_evaluators(LINES, sets=SETS))


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("test/i2t_recall@1", "train.best=test/i2t_recall@1 would choose the checkpoint on 'test', which is reported"),
        ("cifar10/zeroshot_top1", "on 'test', which is reported: choose on a part whose name begins with val"),
        ("sugarcrepe/compositional_add_att", "on 'test', which is reported"),
        ("valid/i2t_recall@1", "is no metric of an evaluator: begin it with one of val/, test/, cifar10/"),
        ("val", "is no metric of an evaluator"),
    ],
)
def test_what_is_reported_may_not(metric, sentence):
    with pytest.raises(HelipError) as error:
        check_choice(metric, build_evaluators(LINES, sets=SETS))
    assert sentence in str(error.value)


@pytest.mark.parametrize("order", [1, -1])
def test_all_evaluators_of_a_name_must_be_on_a_validation_part(order):
    lines = [
        {"kind": "retrieval", "part": "val", "name": "x"},
        {"kind": "zeroshot", "part": "test", "name": "x", "label": "l"},
    ]
    with pytest.raises(HelipError, match="on 'test', which is reported"):
        check_choice("x/zeroshot_l_top1", build_evaluators(lines[::order]))


def test_a_name_does_not_make_a_test_part_a_validation_part():
    with pytest.raises(HelipError, match="on 'test', which is reported"):
        check_choice("val/i2t_recall@1", [Retrieval("val", "test")])
