"""The tiny model's configuration: open_clip builds it, it is small, and no image depends on its neighbours."""

import json

import open_clip
import pytest
import torch

from helip.embedded import EMOJI

CONFIG = EMOJI.parent / "emoji_tiny.json"
LIMIT = 10_000_000  # bytes of the float16 checkpoint


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    open_clip.add_model_config(CONFIG)
    torch.manual_seed(0)
    return open_clip.create_model("emoji_tiny", output_dict=True)  # type: ignore[return-value]


def test_the_checkpoint_fits_in_float16(model) -> None:
    assert 2 * sum(tensor.numel() for tensor in model.state_dict().values()) < 0.8 * LIMIT


def test_embeddings_have_the_width_of_the_configuration(model) -> None:
    config = json.loads(CONFIG.read_text())
    tokens = open_clip.get_tokenizer("emoji_tiny")(["clown face", "keycap: 8"])
    assert tokens.shape == (2, config["text_cfg"]["context_length"])
    found = model(image=torch.zeros(2, 3, 64, 64), text=tokens)
    assert found["image_features"].shape == found["text_features"].shape == (2, config["embed_dim"])


def test_an_image_in_training_does_not_depend_on_its_batch(model) -> None:
    """Why GroupNorm: hard pairs would shift BatchNorm's statistics, and two ranks would differ from one."""
    pictures = torch.rand(4, 3, 64, 64)
    model.train()
    assert not [name for name, module in model.named_modules() if "BatchNorm" in type(module).__name__]
    with torch.no_grad():
        together, alone = model.encode_image(pictures), model.encode_image(pictures[:1])
    assert torch.allclose(together[:1], alone, atol=1e-5)
