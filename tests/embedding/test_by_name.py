"""Encoders by name: timm's and open_clip's, random weights, and the store of embed()."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import helip
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from helip.data.transforms import decode_image
from helip.embedding.by_name import image_encoder, text_encoder
from helip.errors import HelipError
from tests.embedding.fakes import Bytes, Colours
from tests.samples import sample, write_shards, write_tar


def encoded(encoder: Any) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.eval()(encoder.transform(Image.new("RGB", (80, 60), "red"))[None])


def test_open_clips_models_serve_either_side() -> None:
    image, text = image_encoder("open_clip:emoji_tiny"), text_encoder("open_clip:emoji_tiny")
    assert encoded(image).shape == text(text.tokenize(["a cat"])).shape
    with pytest.raises(HelipError, match="open_clip has no model 'ViT-B-23'"):
        text_encoder("open_clip:ViT-B-23")
    with pytest.raises(HelipError, match=r"encoders\.image\.model=resnet5: timm knows no such model"):
        image_encoder("resnet5")


def test_a_timm_model_takes_the_size_of_its_weights() -> None:
    size = timm.get_pretrained_cfg("test_vit")
    assert size is not None
    encoder = image_encoder("test_vit", pretrained=False)
    assert encoder.transform(Image.new("RGB", (300, 200))).shape[-1] == size.input_size[-1]
    assert torch.allclose(encoded(encoder).norm(dim=-1), torch.ones(1), atol=1e-5)
    assert image_encoder("test_vit", 96, False).transform(Image.new("RGB", (300, 200))).shape[-1] == 96


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("vit_small_patch16_dinov3", 384),
        ("convnext_tiny.dinov3_lvd1689m", 768),
        ("vit_base_patch16_siglip_224.v2_webli", 768),
    ],
)
def test_dinov3_and_siglip_2_with_random_weights(name: str, width: int) -> None:
    found = encoded(image_encoder(name, 64 if "siglip" not in name else None, pretrained=False))
    assert found.shape == (1, width) and torch.isfinite(found).all()


def test_embed_gives_the_rows_in_order(tmp_path: Path) -> None:
    write_shards(tmp_path / "tars", [4, 3])
    write_tar(tmp_path / "tars/00002.tar", [("a", sample(1, jpg=b"none")), ("b", sample(2))])
    store = helip.embed(str(tmp_path / "tars"), Colours(), Bytes(), tmp_path / "store", workers=0)
    shards = ShardIndex.build(sorted((tmp_path / "tars").glob("*.tar")))
    assert store.valid.tolist() == [True] * 7 + [False, True]
    reader, image, text = SampleReader(shards), Colours(), Bytes()
    for row in np.flatnonzero(store.valid):
        raw = reader.read(int(row))
        assert np.allclose(store.image[row], image(image.transform(decode_image(raw.image))[None]).numpy(), atol=1e-6)
        assert np.allclose(store.text[row], text(text.tokenize([raw.captions[0]])).numpy(), atol=1e-6)
    again = Colours()
    helip.embed(shards, again, Bytes(), tmp_path / "store", workers=0)
    assert again.rows == 0  # all rows are found
    helip.embed(shards, again, Bytes(), tmp_path / "store", workers=0, identity="others")
    assert again.rows > 0
