import shutil

import pytest
import torch

from helip.errors import HelipError
from helip.models.towers import TowerSettings, prepare_towers
from helip.training.checkpoint_callback import Checkpoints
from helip.training.ema import Ema
from tests.training.tiny import batch_of, fit, tiny_model, tiny_module


def gradients(model):
    """Of a sum over both towers' features."""
    batch = batch_of(0)
    torch.manual_seed(4)  # patch dropout
    features = model.train()(image=batch["image"], text=batch["text"])
    (features["image_features"].square().sum() + features["text_features"][:, 0].sum()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_locked_towers_keep_their_weights_and_the_unlocked_groups_move(tmp_path):
    module = tiny_module(tmp_path)
    prepare_towers(module.model, TowerSettings(lock_image=1, lock_text=0))
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    fit(module, tmp_path, 2)
    moved = {name for name, value in module.model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"logit_scale", "visual.proj"} <= moved
    assert not {name for name in moved if name.startswith(("transformer.", "token_embedding", "visual.conv1"))}
    assert not {name for name in moved if name.startswith("visual.transformer.resblocks.0")}


def test_locking_nothing_trains_everything(tmp_path):
    model = tiny_model(tmp_path)
    prepare_towers(model, TowerSettings())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    plain, recomputed = tiny_model(tmp_path), tiny_model(tmp_path)
    prepare_towers(recomputed, TowerSettings(grad_checkpointing=True))
    assert recomputed.visual.transformer.grad_checkpointing
    expected, found = gradients(plain), gradients(recomputed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile builds C++ on the CPU")
def test_a_compiled_model_trains_to_the_same_weights_under_the_same_names(tmp_path):
    plain, compiled = tiny_module(tmp_path, dropout=0.0, eps=1e-3), tiny_module(tmp_path, dropout=0.0, eps=1e-3)
    prepare_towers(compiled.model, TowerSettings(compile=True))
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for module in (plain, compiled):
        fit(module, tmp_path, 2)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], value, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile builds C++ on the CPU")
def test_a_compiled_model_has_an_average_and_goes_on_in_parts(tmp_path):
    """torch.compile, EMA and parts together: the average that the plain model has, and a checkpoint that resumes."""
    averages = []
    for compile in (False, True):
        module, ema = tiny_module(tmp_path, dropout=0.0, eps=1e-3), Ema(decay=0.5)
        module.accum_freq = 3 if compile else 1
        prepare_towers(module.model, TowerSettings(compile=compile))
        saving = Checkpoints(tmp_path / str(compile), 2, keep=9)
        fit(module, tmp_path, 4, callbacks=[ema, saving])
        averages.append({name: value.clone() for name, value in module.model.state_dict().items()})
    again = tiny_module(tmp_path, dropout=0.0, eps=1e-3)
    prepare_towers(again.model, TowerSettings(compile=True))
    fit(again, tmp_path, 4, start=2, ckpt_path=tmp_path / "True" / "step-000002.ckpt", callbacks=[Ema(decay=0.5)])
    for name, value in averages[0].items():
        torch.testing.assert_close(averages[1][name], value, rtol=0, atol=1e-4)
        torch.testing.assert_close(again.model.state_dict()[name], averages[1][name], rtol=0, atol=1e-4)


def test_compiling_is_asked_of_the_model(tmp_path, monkeypatch):
    asked = []
    model = tiny_model(tmp_path)
    monkeypatch.setattr(type(model), "compile", lambda self: asked.append(self))
    prepare_towers(model, TowerSettings(compile=True))
    assert asked == [model]


def test_what_cannot_be_done_is_one_sentence(tmp_path):
    with pytest.raises(HelipError, match=r"train\.lock_image is -1"):
        TowerSettings(lock_image=-1)
    with pytest.raises(HelipError, match=r"train\.lock_text=0.*cannot lock"):
        prepare_towers(torch.nn.Linear(2, 2), TowerSettings(lock_text=0))
    with pytest.raises(HelipError, match=r"train\.grad_checkpointing"):
        prepare_towers(torch.nn.Linear(2, 2), TowerSettings(grad_checkpointing=True))
