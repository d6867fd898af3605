import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from helip.errors import HelipError
from helip.training.checkpoint_callback import Checkpoints
from helip.training.nan_guard import NanGuard, all_finite
from helip.training.run_files import checkpoints_in
from tests.training.tiny import batch_of, fit, tiny_module


class Break(pl.Callback):
    """Makes a weight infinite after a step with a finite loss."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step == self.step:
            pl_module.model.text_projection.data.fill_(torch.inf)


def test_a_loss_that_is_not_finite_ends_the_run_at_the_next_log_step(tmp_path):
    """Step 3 breaks the weights, step 4 has the first loss that is not finite, and step 6 is logged."""
    callbacks = [NanGuard(tmp_path / "c"), Break(3), Checkpoints(tmp_path / "c", 2, keep=1)]
    with pytest.raises(HelipError, match=r"loss of step 4 is not finite.*optim\.lr.*resume from .*step-000002\.ckpt"):
        fit(tiny_module(tmp_path), tmp_path, 8, callbacks=callbacks)  # step 4 is to be saved
    assert [path.name for path in checkpoints_in(tmp_path / "c")] == ["step-000002.ckpt"]
    with pytest.raises(HelipError, match="the loss of step 6 is not finite") as caught:
        callbacks = [NanGuard(tmp_path / "none"), Break(3), Checkpoints(tmp_path / "none", 100)]
        fit(tiny_module(tmp_path), tmp_path, 8, callbacks=callbacks, log_every_n_steps=3)
    assert "go on from" not in str(caught.value)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    for step, folder in ((2, "periodic"), (5, "last")):
        with pytest.raises(HelipError, match=f"the weights after step {step} are not finite"):
            fit(tiny_module(tmp_path), tmp_path, 5, callbacks=[Break(step), Checkpoints(tmp_path / folder, 2, keep=1)])
    assert not checkpoints_in(tmp_path / "periodic")
    assert [path.name for path in checkpoints_in(tmp_path / "last")] == ["step-000004.ckpt"]


def overflowing(folder, steps, scale):
    """A float16 training on the CPU with the plugin of a GPU, whose batches overflow at these steps."""
    folder.mkdir()

    def make(step):
        batch = batch_of(0)
        batch["image"][0] = torch.inf if step in steps else 0
        return batch

    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=scale))
    module, callbacks = tiny_module(folder), [NanGuard(folder), Checkpoints(folder, 1)]
    fit(module, folder, 3, make=make, plugins=[plugin], callbacks=callbacks)
    return module


def test_a_step_that_a_scaler_skips_does_not_end_the_run_but_overflowing_without_end_does(tmp_path):
    assert all_finite(overflowing(tmp_path / "once", {1}, 2.0**10))
    with pytest.raises(HelipError, match="the loss of step 2 is not finite"):
        overflowing(tmp_path / "always", {0, 1, 2}, 2.0)
