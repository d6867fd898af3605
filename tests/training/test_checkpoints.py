import argparse
import zipfile
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import helip
from helip.errors import HelipError
from helip.models.checkpoints import clip_state, export_clip, interpolate, load_clip_weights, read_checkpoint
from tests.training.tiny import NAME, batch_of, fit, tiny_model, tiny_module


def outputs(model):
    batch = batch_of(0)
    with torch.no_grad():
        return model.eval()(image=batch["image"], text=batch["text"])


def assert_equal_outputs(one, other, tolerance=0.0):
    for name, value in outputs(one).items():
        torch.testing.assert_close(outputs(other)[name], value, rtol=0, atol=tolerance)


@pytest.fixture
def trained(tmp_path):
    """A trained module and its Lightning checkpoint."""
    module = tiny_module(tmp_path)
    fit(module, tmp_path, 2).save_checkpoint(tmp_path / "last.ckpt")
    return module, tmp_path / "last.ckpt"


def test_every_layout_loads(trained, tmp_path):
    module, lightning = trained
    state = module.model.state_dict()
    layouts = {
        "plain": state,
        "open_clip epoch": {"epoch": 3, "name": "x", "state_dict": {f"module.{n}": v for n, v in state.items()}},
        "compiled": {"state_dict": {f"module._orig_mod.{n}": v for n, v in state.items()}},
        "old temperature": state | {"logit_scale": state["logit_scale"][None]},
    }
    files = [lightning]
    for name, content in layouts.items():
        torch.save(content, tmp_path / f"{name}.pt")
        files.append(tmp_path / f"{name}.pt")
    for file in files:
        model = tiny_model(tmp_path, seed=77)
        load_clip_weights(model, file)
        assert_equal_outputs(module.model, model)


def test_export_loads_in_open_clip_with_equal_outputs(trained, tmp_path):
    module, lightning = trained
    for source in (module, module.model, read_checkpoint(lightning)):
        path = export_clip(source, tmp_path / "out" / "clip.pt")
        assert_equal_outputs(module.model, open_clip.create_model(NAME, pretrained=str(path), output_dict=True))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["clip.pt"]


def test_half_precision_export_is_half_the_size_and_close(trained, tmp_path):
    module, _ = trained
    full, half = (export_clip(module, tmp_path / f"{t}.pt", t) for t in (torch.float32, torch.float16))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    model = open_clip.create_model(NAME, pretrained=str(half), output_dict=True)
    assert_equal_outputs(module.model, model, 5e-3)
    assert torch.equal(model.state_dict()["logit_scale"], module.model.logit_scale)


def test_a_failed_export_leaves_the_old_file(trained, tmp_path, monkeypatch):
    module, _ = trained
    path = export_clip(module, tmp_path / "out" / "clip.pt")
    before = path.read_bytes()

    def fail(state, file):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        export_clip(module, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["clip.pt"]


def test_interpolation(trained, tmp_path):
    module, lightning = trained
    start, end = tiny_model(tmp_path).state_dict(), read_checkpoint(lightning)
    assert all(torch.equal(v, start[n]) for n, v in interpolate(start, end, 0.0).items())
    assert all(torch.equal(v, clip_state(end)[n]) for n, v in interpolate(start, end, 1.0).items())
    mixed = interpolate(start, end, 0.25)
    name = "text_projection"
    torch.testing.assert_close(mixed[name], 0.75 * start[name] + 0.25 * module.model.state_dict()[name])
    load = export_clip(mixed, tmp_path / "mixed.pt")
    load_clip_weights(tiny_model(tmp_path), load)
    with pytest.raises(HelipError, match="text_projection"):
        interpolate({n: v for n, v in start.items() if n != name}, end, 0.5)


def test_what_is_no_checkpoint_is_one_sentence(trained, tmp_path):
    _, lightning = trained
    model = tiny_model(tmp_path)
    with pytest.raises(HelipError, match="no checkpoint at"):
        load_clip_weights(model, tmp_path / "absent.pt")
    whole = lightning.read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(HelipError, match=name) as caught:
            load_clip_weights(model, tmp_path / name)
        assert "\n" not in str(caught.value)
    torch.save({"state_dict": model}, tmp_path / "pickle.pt")  # a module, not readable without running code
    with pytest.raises(HelipError, match=r"pickle\.pt"):
        load_clip_weights(model, tmp_path / "pickle.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(HelipError, match="list"):
        load_clip_weights(model, tmp_path / "list.pt")


def test_safetensors_load_and_what_is_none_is_a_sentence(trained, tmp_path):
    module, _ = trained
    state = {name: value.contiguous() for name, value in module.model.state_dict().items()}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    model = tiny_model(tmp_path, seed=77)
    load_clip_weights(model, tmp_path / "open_clip_model.safetensors")
    assert_equal_outputs(module.model, model)
    whole = (tmp_path / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(HelipError, match=r"cut\.safetensors cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "cut.safetensors")


def test_torchscript_is_named_as_such(tmp_path):
    with zipfile.ZipFile(tmp_path / "ViT-B-32.pt", "w") as archive:  # the file by which torch recognises such archives
        archive.writestr("model/constants.pkl", b"")
    with pytest.raises(HelipError, match=r"TorchScript archive.*model\.pretrained=openai"):
        read_checkpoint(tmp_path / "ViT-B-32.pt")


def test_weights_of_another_model_name_what_differs(trained, tmp_path):
    _, lightning = trained
    other = tiny_model(tmp_path, embed_dim=16)
    with pytest.raises(HelipError, match=r"of another shape, e\.g\. (positional|text_projection|visual\.proj)"):
        load_clip_weights(other, lightning)
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(HelipError, match=r"missing.*1 unknown, e\.g\. a"):
        load_clip_weights(other, tmp_path / "a.pt")


def slip_model(open_clip_model):
    """facebookresearch/SLIP's CLIP in a few lines, with the weights of a timm-tower open_clip model under its names."""
    state = {
        "image_projection": open_clip_model.visual.head.proj.weight.T.clone(),
        "image_mlp.layer1.bias": torch.ones(3),
    }
    for name, value in open_clip_model.state_dict().items():
        if name.startswith("visual.trunk."):
            state[f"visual.{name.removeprefix('visual.trunk.')}"] = value
        elif not name.startswith("visual."):
            state[name] = value
    return state


def test_slip_checkpoints_load_with_equal_outputs(tmp_path):
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": "linear", "image_size": 224}
    changes = {"vision_cfg": vision, "quick_gelu": True}
    theirs, ours = tiny_model(tmp_path, seed=1, **changes).eval(), tiny_model(tmp_path, seed=2, **changes).eval()
    content = {
        "epoch": 25,
        "state_dict": {f"module.{name}": value for name, value in slip_model(theirs).items()},
        "args": argparse.Namespace(model="SLIP_VITB16", lr=3e-3),
    }
    torch.save(content, tmp_path / "slip.pt")
    load_clip_weights(ours, tmp_path / "slip.pt")
    image = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # SLIP's own forward: the trunk's token, then a matrix product
        expected = theirs.visual.trunk(image) @ content["state_dict"]["module.image_projection"]
        torch.testing.assert_close(ours.encode_image(image), expected, rtol=1e-5, atol=1e-6)
        text = batch_of(0)["text"]
        assert torch.equal(ours.encode_text(text), theirs.encode_text(text))


def test_the_slip_model_has_the_names_of_slips_checkpoints():
    open_clip.add_model_config(Path(helip.__file__).parent / "embedded")
    config: Any = open_clip.get_model_config("slip_vit_b_16")
    assert config["text_cfg"] == {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    assert config["embed_dim"] == 512
    assert config["quick_gelu"]


def test_a_clip_that_goes_on_with_siglip_keeps_the_new_bias(tmp_path):
    tiny_model(tmp_path)
    path = export_clip(open_clip.create_model(NAME, output_dict=True), tmp_path / "clip.pt")
    model = open_clip.create_model(NAME, output_dict=True, init_logit_bias=-10)
    load_clip_weights(model, path)
    assert model.logit_bias == -10
