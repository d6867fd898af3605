"""CLIP models by name, tag, file and folder, and the names of their artefacts."""

import json
import logging
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from helip.errors import HelipError
from helip.models.clip import Clip, ModelSpec, create_clip
from tests.programs.conftest import CONFIG, MODEL


def features(clip: Clip) -> torch.Tensor:
    pixels = clip.eval_transform(Image.new("RGB", (40, 50), "red"))[None]
    with torch.inference_mode():
        return clip.model.eval().encode_image(pixels)  # type: ignore[operator]


def test_a_model_from_a_file(model_weights: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        clip = create_clip(ModelSpec(MODEL, str(model_weights)))
    assert "randomly" not in caplog.text  # open_clip says so before the file is read
    state = torch.load(model_weights)
    assert all(torch.equal(value, state[name]) for name, value in clip.model.state_dict().items())
    assert clip.tokenize(["a word"]).shape == (1, 12)
    own = {"name": MODEL, "pretrained": str(model_weights), "lr": 1e-5, "arguments": {}}
    assert clip.description == own | {"betas": None, "eps": None, "config": None}


def test_a_model_from_a_folder(model_weights: Path, tmp_path: Path) -> None:
    """open_clip's own layout of a model on disk, such as a downloaded hub repository."""
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    torch.save(torch.load(model_weights), tmp_path / "open_clip_pytorch_model.bin")
    clip = create_clip(ModelSpec(f"local-dir:{tmp_path}", None))
    assert torch.equal(features(clip), features(create_clip(ModelSpec(MODEL, str(model_weights)))))


def test_files_count_by_content_and_tags_by_name(model_weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(model_weights.read_bytes())
    one, other = ModelSpec(MODEL, str(model_weights)), ModelSpec(MODEL, str(copy))
    assert one.identity() == other.identity()
    copy.write_bytes(b"other")
    assert one.identity() != other.identity()
    assert ModelSpec("RN50", "openai").identity() == {"name": "RN50", "pretrained": "openai"}


def test_a_folder_counts_by_content_and_random_weights_by_the_seed(model_weights: Path, tmp_path: Path) -> None:
    for name in ("one", "moved"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
        shutil.copy(model_weights, tmp_path / name / "open_clip_pytorch_model.bin")
    one, moved = (ModelSpec(f"local-dir:{tmp_path / name}", None) for name in ("one", "moved"))
    assert one.identity() == moved.identity() and not one.random
    (tmp_path / "moved" / "open_clip_pytorch_model.bin").write_bytes(b"other")
    assert one.identity() != moved.identity()
    assert ModelSpec("RN50", None).random and not ModelSpec("RN50", "openai").random
    assert not ModelSpec("hf-hub:laion/CLIP-ViT-B-32", None).random


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (ModelSpec("RN5O", None), r"open_clip has no model 'RN5O', did you mean 'RN50'"),
        (ModelSpec("RN50", "opanai"), r"opanai is neither .* of RN50, did you mean 'openai'\?; its tags are openai,"),
        (ModelSpec(MODEL, "openai"), "its tags are none"),
        (ModelSpec("local-dir:/nowhere", None), "local-dir:/nowhere .* cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_had(model_weights: Path, spec: ModelSpec, sentence: str) -> None:
    with pytest.raises(HelipError, match=sentence):
        create_clip(spec)


def test_weights_of_another_model(model_weights: Path, tmp_path: Path) -> None:
    state = torch.load(model_weights)
    state.pop("visual.proj")
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(
        HelipError, match=r"less\.pt \(weights alone\) does not fit the model \(1 missing, e\.g\. visual\.proj"
    ):
        create_clip(ModelSpec(MODEL, str(tmp_path / "less.pt")))


def test_the_embedded_model_is_known() -> None:
    clip = create_clip(ModelSpec("emoji_tiny", None))
    config = open_clip.get_model_config("emoji_tiny")
    assert config is not None
    assert features(clip).shape == (1, config["embed_dim"])
