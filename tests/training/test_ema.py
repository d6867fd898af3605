import pytest
import pytorch_lightning as pl
import torch

from helip.errors import HelipError
from helip.models.checkpoints import clip_state, read_checkpoint
from helip.training.checkpoint_callback import Checkpoints
from helip.training.ema import Ema
from tests.training.tiny import fit, tiny_module

DECAY = 0.5


class Watch(pl.Callback):
    """The trained and the averaged weight after each step."""

    def __init__(self, ema):
        self.ema, self.trained, self.averaged = ema, [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        weight = pl_module.model.text_projection
        self.trained.append(weight.detach().clone())
        with self.ema.averaged(pl_module):
            self.averaged.append(weight.detach().clone())
        assert torch.equal(weight, self.trained[-1])


def run(folder, steps, start=0, ckpt_path=None):
    module, ema = tiny_module(folder, max_steps=6), Ema(decay=DECAY)
    module.fixed["train.ema"] = DECAY
    watch, saving = Watch(ema), Checkpoints(folder / f"from{start}", 2, keep=9)
    fit(module, folder, steps, start=start, ckpt_path=ckpt_path, callbacks=[ema, watch, saving])
    return module, watch


def test_the_average_is_the_recurrence_and_what_the_run_ends_with(tmp_path):
    torch.manual_seed(1)
    module, watch = run(tmp_path, 4)
    average = watch.trained[0]
    for trained, found in zip(watch.trained, watch.averaged, strict=True):
        average = trained if trained is watch.trained[0] else DECAY * average + (1 - DECAY) * trained
        torch.testing.assert_close(found, average)
    torch.testing.assert_close(module.model.text_projection.detach(), average)
    assert not torch.equal(average, watch.trained[-1])
    assert all(value.isfinite().all() for value in module.model.state_dict().values())
    saved = clip_state(read_checkpoint(tmp_path / "from0" / "step-000004.ckpt"))
    torch.testing.assert_close(saved["text_projection"], average)


def test_a_resumed_run_has_the_same_trained_and_averaged_weights(tmp_path):
    torch.manual_seed(1)
    unbroken, watch = run(tmp_path, 6)
    torch.manual_seed(999)
    again, second = run(tmp_path, 6, start=2, ckpt_path=tmp_path / "from0" / "step-000002.ckpt")
    assert torch.equal(watch.trained[-1], second.trained[-1])
    assert torch.equal(unbroken.model.text_projection, again.model.text_projection)


def test_a_run_that_is_resumed_at_its_last_step_ends_with_the_average(tmp_path):
    unbroken, watch = run(tmp_path, 4)
    again, _ = run(tmp_path, 4, start=4, ckpt_path=tmp_path / "from0" / "step-000004.ckpt")
    assert torch.equal(again.model.text_projection, unbroken.model.text_projection)
    assert not torch.equal(again.model.text_projection, watch.trained[-1])


def test_without_the_average_a_run_goes_on_from_the_trained_weights_if_asked(tmp_path):
    _, watch = run(tmp_path, 2)
    checkpoint = tmp_path / "from0" / "step-000002.ckpt"
    module = tiny_module(tmp_path, max_steps=6)
    module.fixed["train.ema"] = None
    with pytest.raises(HelipError, match=r"train\.ema was 0\.5 and is None.*train\.allow_change=true"):
        fit(module, tmp_path, 2, start=2, ckpt_path=checkpoint)
    module.allow_change = True
    fit(module, tmp_path, 2, start=2, ckpt_path=checkpoint)
    assert torch.equal(module.model.text_projection, watch.trained[-1])
