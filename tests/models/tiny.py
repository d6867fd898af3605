"""Tiny CLIP and SigLIP models with random weights, of open_clip and of transformers."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from helip.models.clip import Clip, ModelSpec, create_clip

IMAGE = {"image_size": 32, "layers": 2, "width": 48, "head_width": 12, "patch_size": 8}
SHAPE: dict = {"embed_dim": 24, "vision_cfg": IMAGE}
SHAPE["text_cfg"] = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}


def tower(**more: int | str) -> dict:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return shape | more


def clip_config(act: str = "quick_gelu", **text: int) -> Any:
    return transformers.CLIPConfig(
        text_config=tower(vocab_size=49408, max_position_embeddings=16, hidden_act=act, eos_token_id=49407, **text),
        vision_config=tower(image_size=32, patch_size=8, hidden_act=act, hidden_size=48),
        projection_dim=24,
    )


def siglip_config(act: str = "gelu_pytorch_tanh") -> Any:
    return transformers.SiglipConfig(
        text_config=tower(vocab_size=60, max_position_embeddings=16, hidden_act=act, projection_size=32),
        vision_config=tower(image_size=32, patch_size=8, hidden_act=act),
    )


def randomise(model: torch.nn.Module) -> Any:
    """Random values for all weights, because a swap of two that begin as zeros or ones would not be found."""
    generator = torch.Generator().manual_seed(0)
    for value in model.parameters():
        value.data += 0.2 * torch.randn(value.shape, generator=generator)
    return model.eval()


def word_tokenizer(folder: Path) -> None:
    """A tokenizer that needs no download: as transformers reads any tokenizer.json."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = ("[pad]", "[unk]", "a", "photo", "of", "the", "red", "green", "blue", "cat")
    words = {word: number for number, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[pad]", unk_token="[unk]")
    fast.save_pretrained(folder)


def written(folder: Path, config: Any) -> Any:
    model = randomise(transformers.AutoModel.from_config(config))
    model.save_pretrained(folder)
    if config.model_type == "siglip":
        word_tokenizer(folder)
    return model


def own(folder: Path, **changes: object) -> ModelSpec:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shape.json").write_text(json.dumps(SHAPE | changes))
    return ModelSpec("own", None, config=f"{folder}/shape.json")


def made(spec: ModelSpec) -> Clip:
    clip = create_clip(spec)
    randomise(clip.model)
    return clip
