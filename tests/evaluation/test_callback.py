"""The steps of evaluations, their records, and that they do not change the training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from helip.evaluation.callback import EvaluationCallback, drift
from helip.evaluation.embed import Evaluator
from helip.evaluation.samples import Sampled


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear, self.dropout = torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)
        self.frozen = torch.nn.BatchNorm1d(4)

    def on_train_start(self):
        self.frozen.eval()

    def training_step(self, batch, _):
        assert self.linear.training and self.dropout.training and not self.frozen.training
        return self.frozen(self.dropout(self.linear(batch))).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Peek:
    """An Embed whose part is the module itself."""

    transform = device = images = texts = classifier = fields = captions = None

    def __init__(self, module: pl.LightningModule) -> None:
        self.module = module

    def part(self, part: str) -> Any:
        return self.module


@dataclass(frozen=True)
class Probe(Evaluator):
    """Reads the model, and draws random numbers as an augmentation would."""

    def run(self, embed: Any) -> dict[str, Sampled]:
        module = embed.part("module")
        assert not any(part.training for part in module.modules())
        torch.rand(3)
        return {"weight": Sampled(np.array([module.linear.weight.sum().item()]))}


def fit(folder: Path, steps: int, every: int | None, ckpt_path: Path | None = None):
    torch.manual_seed(0)
    module = Module()
    callback = EvaluationCallback(
        [Probe("p")] if every is not None else [], lambda _, module: cast(Any, Peek(module)), every or 0
    )
    trainer = pl.Trainer(
        max_steps=steps,
        log_every_n_steps=1,
        accelerator="cpu",
        logger=CSVLogger(folder),
        callbacks=[callback, ModelCheckpoint(folder / "checkpoints", "last", every_n_train_steps=1)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = DataLoader(torch.linspace(0, 1, 80).reshape(20, 4), batch_size=2)  # type: ignore[arg-type]
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=False)
    return callback, module


def test_every_so_many_steps_and_once_at_the_end(tmp_path):
    callback, module = fit(tmp_path, steps=7, every=3)
    assert [entry["step"] for entry in callback.history] == [3, 6, 7]
    assert callback.last == {"p/weight": module.linear.weight.sum().item()}
    logged = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text()
    assert logged.splitlines()[0] == "p/weight,step" and len(logged.splitlines()) == 4
    assert [entry["step"] for entry in fit(tmp_path / "b", steps=6, every=3)[0].history] == [3, 6]
    assert [entry["step"] for entry in fit(tmp_path / "c", steps=2, every=0)[0].history] == [2]


def test_nothing_measured_is_no_line_of_the_log(tmp_path):
    fit(tmp_path, steps=2, every=None)
    assert not list(tmp_path.rglob("metrics.csv"))


def test_an_evaluator_may_have_an_interval_of_its_own(tmp_path):
    module = Module()
    callback = EvaluationCallback(
        [Probe("often", every=2), Probe("rare", every=4), Probe("common")], lambda _, m: cast(Any, Peek(m)), every=3
    )
    trainer = pl.Trainer(max_steps=7, accelerator="cpu", logger=False, callbacks=[callback], enable_checkpointing=False)
    trainer.fit(module, DataLoader(torch.ones(20, 4), batch_size=2))  # type: ignore[arg-type]
    ran = {entry["step"]: {name.split("/")[0] for name in entry if name != "step"} for entry in callback.history}
    every = {"often", "rare", "common"}
    assert ran == {2: {"often"}, 3: {"common"}, 4: {"often", "rare"}, 6: {"often", "common"}, 7: every}
    assert set(callback.last) == {"often/weight", "rare/weight", "common/weight"}
    assert trainer.callback_metrics["rare/weight"].item() == callback.last["rare/weight"]


def test_training_does_not_notice(tmp_path):
    with_evaluation = fit(tmp_path / "a", steps=6, every=1)[1]
    without = fit(tmp_path / "b", steps=6, every=None)[1]
    for a, b in zip(with_evaluation.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)


def test_history_survives_a_resume(tmp_path):
    fit(tmp_path, steps=4, every=2)
    resumed, _ = fit(tmp_path / "again", steps=6, every=2, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert [entry["step"] for entry in resumed.history] == [2, 4, 6]


def test_drift_alarm():
    start = {"test/zeroshot_group_top1": 0.50, "test/t2i_recall@1": 0.9}
    assert drift(start, {"test/zeroshot_group_top1": 0.46, "test/t2i_recall@1": 0.1}, 0.05) == []
    (line,) = drift(start, {"test/zeroshot_group_top1": 0.44, "imagenet/zeroshot_top1": 0.0}, 0.05)
    assert line.startswith("test/zeroshot_group_top1 fell from 50.0 to 44.0 %")
    start |= {"dtd/zeroshot_top1": 0.3, "cars/zeroshot_top1": 0.2, "dtd/probe_top1": 0.5}
    now = {"dtd/zeroshot_top1": 0.24, "cars/zeroshot_top1": 0.1, "dtd/probe_top1": 0.0, "test/t2i_recall@1": 0.0}
    assert [line.split(" fell")[0] for line in drift(start, now, 0.05)] == ["dtd/zeroshot_top1", "cars/zeroshot_top1"]
    assert drift(start, now, 0.1) == []  # the drop is not larger than the limit


def test_drift_is_warned_about(tmp_path):
    @dataclass(frozen=True)
    class Fallen(Evaluator):
        def run(self, embed: Any) -> dict[str, Sampled]:
            return {"zeroshot_top1": Sampled(np.array([0.1]))}

    callback = EvaluationCallback([Fallen("t")], lambda _, m: cast(Any, Peek(m)), 0, start={"t/zeroshot_top1": 0.4})
    trainer = pl.Trainer(max_steps=1, accelerator="cpu", logger=False, callbacks=[callback], enable_checkpointing=False)
    with pytest.warns(UserWarning, match="the model forgets"):
        trainer.fit(Module(), DataLoader(torch.ones(4, 4), batch_size=2))  # type: ignore[arg-type]
