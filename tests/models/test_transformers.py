"""transformers' CLIP and SigLIP in and out: the same logits, tokens and pixels, with tiny random models of both."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from PIL import Image

from helip.errors import HelipError
from helip.formats.to_open_clip_dir import to_open_clip_dir
from helip.formats.to_transformers import to_transformers
from helip.models.checkpoints import export_clip
from helip.models.clip import Clip, ModelSpec, create_clip
from helip.training.resume import checkpoint_model
from tests.models.tiny import IMAGE, clip_config, made, own, siglip_config, written
from tests.samples import picture

CLOSE = 1e-5


def preprocessing(clip: Clip) -> dict[str, Any]:
    visual: Any = clip.model.visual
    return visual.preprocess_cfg


def inputs(words: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(3, words - 2, (3, 16), generator=generator)
    text[:, 9] = words - 1  # the end of the text, the largest token
    text[:, 10:] = 0
    return torch.randn(4, 3, 32, 32, generator=generator), text


@torch.no_grad()
def logits(clip: Clip, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    clip.model.eval()
    out = clip.model(image=image, text=text)
    bias = out.get("logit_bias", 0.0)
    return out["logit_scale"] * out["image_features"] @ out["text_features"].T + bias


@torch.no_grad()
def their_logits(model: Any, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return model(pixel_values=image, input_ids=text).logits_per_image


@pytest.mark.parametrize(
    "config",
    [clip_config(), clip_config("gelu"), siglip_config(), siglip_config("gelu")],
    ids=["clip-quick-gelu", "clip-gelu", "siglip-tanh", "siglip-gelu"],
)
def test_a_checkpoint_of_transformers_gives_the_same_logits(tmp_path: Path, config: Any) -> None:
    model = written(tmp_path / "theirs", config)
    image, text = inputs(config.text_config.vocab_size)
    clip = create_clip(ModelSpec(f"hf:{tmp_path}/theirs", None))
    assert torch.allclose(logits(clip, image, text), their_logits(model, image, text), atol=CLOSE, rtol=CLOSE)
    assert clip.eval_transform(Image.new("RGB", (50, 40))).shape == (3, 32, 32)
    assert clip.tokenize(["a photo of the red cat"]).shape == (1, 16)


def test_the_largest_token_is_the_end_in_old_configs(tmp_path: Path) -> None:
    """eos_token_id 2, as in OpenAI's checkpoints."""
    config = clip_config()
    config.text_config.eos_token_id = 2
    model = written(tmp_path, config)
    image, text = inputs(49408)
    found = logits(create_clip(ModelSpec(f"hf:{tmp_path}", None)), image, text)
    assert torch.allclose(found, their_logits(model, image, text), atol=CLOSE, rtol=CLOSE)


def test_what_has_no_counterpart_is_named(tmp_path: Path) -> None:
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    written(tmp_path / "silu", clip_config("silu"))
    for name, sentence in (
        ("bert", "is a bert, which has no counterpart in open_clip: clip and siglip do"),
        ("silu", "has the activations silu and silu: open_clip has gelu or quick_gelu"),
        ("gone", "there is no such folder"),
    ):
        with pytest.raises(HelipError, match=sentence):
            create_clip(ModelSpec(f"hf:{tmp_path}/{name}", None))


def test_preprocessing_is_the_checkpoints(tmp_path: Path) -> None:
    written(tmp_path, clip_config())
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3], resample=2
    ).save_pretrained(tmp_path)
    clip = create_clip(ModelSpec(f"hf:{tmp_path}", None))
    assert preprocessing(clip)["mean"] == [0.1, 0.2, 0.3]
    assert preprocessing(clip)["interpolation"] == "bilinear"


WORDS = "a photo of two red green dogs running over tall grass , don't 3 café's T-shirt ! 100% \U0001f600 #tag"


def captions(count: int) -> list[str]:
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS.split(), draw.integers(1, 30))) for _ in range(count)]


@pytest.mark.parametrize("changes", [{}, {"quick_gelu": True}, {"custom_text": True}], ids=["gelu", "quick", "custom"])
def test_ours_as_transformers_and_back(tmp_path: Path, changes: dict) -> None:
    clip = made(own(tmp_path, **changes))
    said = to_transformers(clip, tmp_path / "out")
    assert said[0].startswith("CLIPModel with")
    model = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    image, text = torch.randn(4, 3, 32, 32), clip.tokenize(captions(5))
    found = logits(clip, image, text)
    assert torch.allclose(found, their_logits(model, image, text), atol=CLOSE, rtol=CLOSE)
    again = create_clip(ModelSpec(f"hf:{tmp_path}/out", None))
    assert torch.allclose(logits(again, image, text), found, atol=CLOSE, rtol=CLOSE)


def test_siglip_there_and_back(tmp_path: Path) -> None:
    model = written(tmp_path / "theirs", siglip_config())
    clip = create_clip(ModelSpec(f"hf:{tmp_path}/theirs", None))
    to_transformers(clip, tmp_path / "out")
    again = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    image, text = inputs(60)
    expected = their_logits(model, image, text)
    for found in (
        their_logits(again, image, text),
        logits(create_clip(ModelSpec(f"hf:{tmp_path}/out", None)), image, text),
    ):
        assert torch.allclose(found, expected, atol=CLOSE, rtol=CLOSE)
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words("a photo of the red cat").input_ids == clip.tokenize(["a photo of the red cat"])[0, :6].tolist()
    with pytest.raises(HelipError, match=r"came from transformers.*helip convert to-transformers exports it"):
        to_open_clip_dir(clip, tmp_path / "dir")


def test_tokens_of_a_thousand_captions_are_the_same(tmp_path: Path) -> None:
    """Up to the end of the text. Then open_clip pads with 0 and transformers with the end, which changes no logit."""
    clip = made(own(tmp_path))
    to_transformers(clip, tmp_path / "out")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = captions(1000)
    theirs = words(texts, padding="max_length", truncation=True, max_length=20, return_tensors="pt").input_ids
    ours = clip.tokenize(texts)
    end = (ours == 49407).int().argmax(1)
    inside = torch.arange(20) <= end[:, None]
    assert (ours == 49407).any(1).all() and torch.equal(ours[inside], theirs[inside])
    assert set(ours[~inside].tolist()) == {0} and set(theirs[~inside].tolist()) == {49407}
    model = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    image = torch.randn(2, 3, 32, 32)
    assert torch.allclose(logits(clip, image, ours), their_logits(model, image, theirs), atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("arguments", [{}, {"image_resize_mode": "squash", "image_interpolation": "bilinear"}])
def test_pixels_are_nearly_the_same(tmp_path: Path, arguments: dict) -> None:
    """transformers resizes with torchvision, open_clip with Pillow: they differ by one level of 255. If an odd
    number of pixels is cut, open_clip rounds half of it to even and transformers down: a crop may lie 1 px earlier."""
    spec = own(tmp_path)
    clip = made(ModelSpec(spec.name, None, arguments=arguments, config=spec.config))
    to_transformers(clip, tmp_path / "out")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
    deviation = torch.tensor(preprocessing(clip)["std"])[:, None, None]
    moved = 0
    for number in range(20):
        shown = Image.open(io.BytesIO(picture(number, 90))).resize((90, 60 + number))
        ours = clip.eval_transform(shown)
        theirs = processor(shown, return_tensors="pt")["pixel_values"][0]
        assert ours.shape == theirs.shape
        cut = int(32 * 90 / (60 + number)) - 32 if not arguments else 0
        if round(cut / 2) != cut // 2:
            ours, theirs, moved = ours[..., :-1], theirs[..., 1:], moved + 1
        assert float(((ours - theirs) * deviation).abs().max() * 255) <= 1.01
    assert (moved > 0) == (not arguments)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("emoji_tiny", "the image tower TimmModel test_efficientnet_gn has no counterpart"),
        ("RN50", "the image tower ModifiedResNet has no counterpart"),
    ],
)
def test_towers_without_a_counterpart_are_named(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(HelipError, match=sentence), torch.device("meta"):
        from helip.models.to_transformers import as_transformers

        as_transformers(open_clip.create_model(name, device="meta"))


def test_other_poolings_are_named(tmp_path: Path) -> None:
    average = made(own(tmp_path, vision_cfg=IMAGE | {"pool_type": "avg"}))
    with pytest.raises(HelipError, match="'avg' pooling of the image tower has no counterpart"):
        to_transformers(average, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_open_clip_folder_loads_as_it_was(tmp_path: Path) -> None:
    spec = own(tmp_path, quick_gelu=True)
    clip = made(ModelSpec(spec.name, None, arguments={"image_mean": [0.1, 0.2, 0.3]}, config=spec.config))
    to_open_clip_dir(clip, tmp_path / "out", "a card")
    theirs: Any
    transform: Any
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}/out")
    assert theirs.visual.preprocess_cfg["mean"] == [0.1, 0.2, 0.3]
    shown = Image.open(io.BytesIO(picture(1, 50)))
    assert torch.equal(transform(shown), clip.eval_transform(shown))
    again = create_clip(ModelSpec(f"local-dir:{tmp_path}/out", None))
    image, text = torch.randn(3, 3, 32, 32), clip.tokenize(captions(3))
    assert torch.equal(logits(again, image, text), logits(clip, image, text))
    assert (tmp_path / "out/README.md").read_text() == "a card"


def test_weights_over_a_checkpoint_of_transformers(tmp_path: Path) -> None:
    """As evaluate.py rebuilds a run: the architecture of the checkpoint, the weights of the run."""
    written(tmp_path / "theirs", clip_config())
    spec = ModelSpec(f"hf:{tmp_path}/theirs", None)
    clip = create_clip(spec)
    for value in clip.model.parameters():
        value.data += 0.01
    export_clip(clip.model, tmp_path / "final.pt")
    (tmp_path / "config.json").write_text(json.dumps({"model": clip.description}))
    found = checkpoint_model(tmp_path, ModelSpec("RN50", None))
    assert found.name == spec.name and found.identity() != spec.identity()
    image, text = inputs(49408)
    assert torch.equal(logits(create_clip(found), image, text), logits(clip, image, text))
