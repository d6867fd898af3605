"""The module through Lightning's own loop: steps, logs, resume."""

import copy
import csv
import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.precision import MixedPrecision

from helip.errors import HelipError
from helip.training.losses import HelipLoss
from helip.training.module import MAX_LOGIT_SCALE, RNG_KEY, HelipModule
from helip.training.monitor import SpeedMonitor
from helip.training.optim import OptimSettings, build_optimizer, build_schedule
from tests.training.tiny import DESCRIPTION, batch_of, fit, tiny_model, tiny_module

# they do not apply: tests use one folder, and a loader whose batches depend only on the step
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{start}")
    for start in (
        "Checkpoint directory",
        "Experiment logs directory",
        "Be aware that when using",
        "You're resuming from",
    )
]


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def plain_loop(module, steps):
    """The training of the module, written without Lightning."""
    optimizer = build_optimizer(module.model, module.optim)
    schedule = build_schedule(optimizer, module.optim.warmup, module.max_steps)
    for step in range(steps):
        batch = batch_of(step)
        features = module.model(image=batch["image"], text=batch["text"])
        terms = HelipLoss()(**features, target=batch["target"], identity=batch["identity"], mined=batch["mined"])
        optimizer.zero_grad()
        (terms["clip_loss"] + terms["margin_loss"]).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            module.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def test_equals_a_plain_loop_bit_for_bit(tmp_path):
    module = tiny_module(tmp_path)
    plain = copy.deepcopy(module)
    torch.manual_seed(5)
    plain_loop(plain, 4)

    class Seed(pl.Callback):  # after the loader's own draw from the generator
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                torch.manual_seed(5)

    fit(module, tmp_path, 4, callbacks=[Seed()])
    assert same_weights(plain.model, module.model)
    assert not same_weights(module.model, tiny_model(tmp_path))


def resumed(tmp_path, break_state=lambda checkpoint: None, stop_at=3, until=6):
    """(module trained in one go, module stopped and resumed from the file that break_state has touched)."""
    torch.manual_seed(11)
    unbroken = tiny_module(tmp_path, max_steps=until)
    every = ModelCheckpoint(
        tmp_path, filename="step-{step:06d}", auto_insert_metric_name=False, save_top_k=-1, every_n_train_steps=stop_at
    )
    fit(unbroken, tmp_path, until, callbacks=[every], enable_checkpointing=True)
    path = tmp_path / f"step-{stop_at:06d}.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    break_state(checkpoint)
    torch.save(checkpoint, path)
    torch.manual_seed(999)  # a new process has another generator state
    again = tiny_module(tmp_path, max_steps=until)
    fit(again, tmp_path, until, start=stop_at, ckpt_path=path)
    return unbroken, again


def test_resume_is_bit_identical(tmp_path):
    unbroken, again = resumed(tmp_path)
    assert same_weights(unbroken, again)


def shift_rng(checkpoint):
    checkpoint[RNG_KEY]["cpu"] = torch.Generator().manual_seed(1).get_state()[None]


def forget_moments(checkpoint):
    for state in checkpoint["optimizer_states"][0]["state"].values():
        state["exp_avg"].zero_()


def restart_schedule(checkpoint):
    checkpoint["lr_schedulers"][0]["last_epoch"] = 0


@pytest.mark.parametrize("break_state", [shift_rng, forget_moments, restart_schedule])
def test_resume_from_a_broken_state_is_noticed(tmp_path, break_state):
    unbroken, again = resumed(tmp_path, break_state)
    assert not same_weights(unbroken, again)


def test_draws_between_the_steps_do_not_shift_the_training(tmp_path):
    class Draw(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            torch.rand(batch_idx + 1)

    modules = []
    for callbacks in ([], [Draw()]):
        modules.append(tiny_module(tmp_path))
        torch.manual_seed(3)
        fit(modules[-1], tmp_path, 3, callbacks=callbacks)
    assert same_weights(*modules)


def test_a_checkpoint_of_other_ranks_warns(tmp_path):
    def two_ranks(checkpoint):
        checkpoint[RNG_KEY]["cpu"] = checkpoint[RNG_KEY]["cpu"].repeat(2, 1)

    with pytest.warns(UserWarning, match="no random state for 1 ranks"):
        resumed(tmp_path, two_ranks, stop_at=1, until=2)


def test_the_checkpoint_carries_the_description(tmp_path):
    trainer = fit(tiny_module(tmp_path), tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["helip"] == DESCRIPTION


def test_logs(tmp_path):
    module = tiny_module(tmp_path)
    logger = CSVLogger(tmp_path, name="", version="")
    fit(module, tmp_path, 6, logger=logger, log_every_n_steps=2, callbacks=[SpeedMonitor()])
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 3, 5]
    last = {name.removeprefix("train/"): float(value) for name, value in rows[-1].items() if value}
    assert last["loss"] == pytest.approx(last["contrastive_loss"] + last["margin_loss"], rel=1e-5)
    assert last["replaced_rows"] == 1
    assert last["masked_pairs"] > 0
    assert last["grad_norm"] > 0
    assert last["scale"] == pytest.approx(1 / 0.07, rel=0.05)
    assert last["lr"] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 3 / 6)))
    assert {"similarity_positive", "similarity_hard", "similarity_normal", "accuracy_normal", "accuracy_hard"} <= set(
        last
    )
    assert 0 < last["data_time"] < last["batch_time"]
    assert last["samples_per_second"] == pytest.approx(9 / last["batch_time"], rel=0.01)
    assert 0 < last["data_wait_share"] < 1


def test_without_hard_pairs_their_statistics_are_absent_and_the_margin_is_zero(tmp_path):
    def lonely(step):
        return batch_of(step) | {"target": torch.arange(9)}

    trainer = fit(tiny_module(tmp_path), tmp_path, 2, make=lonely)
    logged = trainer.logged_metrics
    assert logged["train/margin_loss"] == 0
    assert "train/similarity_normal" in logged
    assert not {"train/similarity_hard", "train/accuracy_hard"} & set(logged)


def test_the_temperature_is_clamped_before_the_checkpoint(tmp_path):
    module = tiny_module(tmp_path, lr=1.0, warmup=0)
    with torch.no_grad():
        module.model.logit_scale.fill_(MAX_LOGIT_SCALE)

    class PullUp(pl.Callback):  # a gradient that raises the temperature above its limit at every step
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            module.model.logit_scale.grad.fill_(-1)

    every = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    fit(module, tmp_path, 3, callbacks=[every, PullUp()], enable_checkpointing=True)
    saved = [torch.load(path)["state_dict"]["model.logit_scale"] for path in tmp_path.glob("*.ckpt")]
    assert [value == torch.tensor(MAX_LOGIT_SCALE) for value in saved] == [True] * 3


def test_gradient_clipping_is_the_trainers(tmp_path):
    clipped, free = tiny_module(tmp_path), tiny_module(tmp_path)
    for module, value in ((clipped, 1e-3), (free, None)):
        torch.manual_seed(1)
        fit(module, tmp_path, 2, gradient_clip_val=value)
    assert not same_weights(clipped, free)


def test_lightnings_accumulation_is_refused(tmp_path):
    with pytest.raises(HelipError, match=r"accumulate_grad_batches is 2.*data\.batch_size"):
        fit(tiny_module(tmp_path), tmp_path, 2, accumulate_grad_batches=2)


def test_a_changed_schedule_is_refused_unless_asked_for(tmp_path):
    fit(tiny_module(tmp_path, max_steps=4), tmp_path, 2).save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(HelipError, match=r"train\.max_steps was 4 and is 8.*train\.allow_change=true"):
        fit(tiny_module(tmp_path, max_steps=8), tmp_path, 4, start=2, ckpt_path=tmp_path / "a.ckpt")
    with pytest.raises(HelipError, match=r"optim\.lr was 0\.001 and is 0\.002"):
        fit(tiny_module(tmp_path, max_steps=4, lr=2e-3), tmp_path, 4, start=2, ckpt_path=tmp_path / "a.ckpt")
    module = tiny_module(tmp_path, max_steps=8, lr=2e-3, weight_decay=0.1)
    module.allow_change = True
    trainer = fit(module, tmp_path, 3, start=2, ckpt_path=tmp_path / "a.ckpt")
    optimizer = trainer.optimizers[0]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 * 0.5 * (1 + math.cos(math.pi * 1 / 6)))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.1]


def test_layers_keep_their_learning_rates_through_a_resume_and_a_change(tmp_path):
    fit(tiny_module(tmp_path, max_steps=4, layer_decay=0.5), tmp_path, 2).save_checkpoint(tmp_path / "a.ckpt")
    module = tiny_module(tmp_path, max_steps=8, lr=2e-3, layer_decay=0.5)
    module.allow_change = True
    trainer = fit(module, tmp_path, 3, start=2, ckpt_path=tmp_path / "a.ckpt")
    factor = 0.5 * (1 + math.cos(math.pi * 1 / 6))
    rates = sorted({group["lr"] for group in trainer.optimizers[0].param_groups}, reverse=True)
    assert rates == pytest.approx([2e-3 * factor * 0.5**depth for depth in range(4)])
    other = tiny_module(tmp_path, max_steps=4, layer_decay=0.7)
    other.allow_change = True
    with pytest.raises(HelipError, match=r"optim\.layer_decay cannot change"):
        fit(other, tmp_path, 3, start=2, ckpt_path=tmp_path / "a.ckpt")


def test_other_settings_that_a_resumed_run_must_share(tmp_path):
    module = tiny_module(tmp_path)
    own = HelipModule(module.model, HelipLoss(), OptimSettings(), 8, DESCRIPTION, {"data.batch_size": 8})
    fit(own, tmp_path, 1).save_checkpoint(tmp_path / "a.ckpt")
    other = HelipModule(module.model, HelipLoss(), OptimSettings(), 8, DESCRIPTION, {"data.batch_size": 16})
    with pytest.raises(HelipError, match=r"data\.batch_size was 8 and is 16"):
        fit(other, tmp_path, 2, start=1, ckpt_path=tmp_path / "a.ckpt")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_precisions_learn(tmp_path, precision):
    losses = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs: Any, batch, batch_idx):
            losses.append(float(outputs["loss"]))

    torch.manual_seed(0)
    module = tiny_module(tmp_path, max_steps=30, lr=3e-3)
    fit(module, tmp_path, 30, make=lambda step: batch_of(0), precision=precision, callbacks=[Watch()])
    assert losses[-1] < 0.7 * losses[0]


def test_float16_scales_its_loss_and_skips_a_step_that_overflows(tmp_path):
    """With the plugin of a GPU, because Lightning would use bf16 on the CPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    module, seen = tiny_module(tmp_path, max_steps=30, lr=3e-3, warmup=0), []

    class Overflow(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.before = copy.deepcopy(module.state_dict())
            if batch_idx == 3:
                batch["image"][0] = torch.inf

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            moved = any(not torch.equal(value, self.before[name]) for name, value in module.state_dict().items())
            seen.append((moved, scaler.get_scale(), float(trainer.logged_metrics["train/grad_norm"])))

    def make(step):
        return batch_of(0)

    trainer = fit(module, tmp_path, 30, make=make, plugins=[plugin], callbacks=[Overflow()])
    assert trainer.precision == "16-mixed" and not trainer.optimizers[0].defaults["fused"]
    assert [moved for moved, _, _ in seen] == [step != 3 for step in range(30)]
    assert seen[2][1] == 2.0**10 and seen[3][1] == 2.0**9
    plain = tiny_module(tmp_path, max_steps=30, lr=3e-3, warmup=0)
    norm = fit(plain, tmp_path, 1, make=make).logged_metrics["train/grad_norm"]
    assert seen[0][2] == pytest.approx(float(norm), rel=0.05)  # unscaled before it is logged
    assert all(value.isfinite().all() for value in module.state_dict().values())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_half_precision_on_a_gpu(tmp_path, precision):
    module = tiny_module(tmp_path, max_steps=30, lr=3e-3)
    trainer = fit(module, tmp_path, 30, make=lambda step: batch_of(0), precision=precision, accelerator="gpu")
    assert trainer.logged_metrics == {} or all(value.isfinite() for value in trainer.logged_metrics.values())
    assert all(value.isfinite().all() for value in module.model.parameters())
