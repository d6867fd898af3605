"""Converts an open_clip model to transformers' CLIPModel or SiglipModel, if its towers have a counterpart."""

from typing import Any

import open_clip
import torch
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from timm.layers.activations import GELUTanh
from torch import nn

from helip.errors import HelipError
from helip.models.tensor_names import Rule, clip_rules, siglip_rules, to_theirs


class NoCounterpart(HelipError):
    """transformers has no model for this tower."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} has no counterpart in transformers' CLIPModel and SiglipModel: helip convert to-open-clip-dir "
            "exports it for open_clip"
        )


def as_transformers(model: Any) -> Any:
    """A transformers model with the weights of an open_clip model. Raises HelipError if a tower has no counterpart."""
    import transformers

    text = getattr(model, "text", model)  # CustomTextCLIP has a text tower, CLIP has its parts as attributes
    if isinstance(model.visual, VisionTransformer):
        config = transformers.CLIPConfig(**_clip_config(model, text))
        made: Any = transformers.CLIPModel(config)
        rules = clip_rules(*_layers(config))
        state = {name.removeprefix("text."): value for name, value in model.state_dict().items()}
    elif getattr(getattr(model.visual, "trunk", None), "attn_pool", None) is not None:
        config = transformers.SiglipConfig(**_siglip_config(model, text))
        made = transformers.SiglipModel(config)
        rules, state = siglip_rules(*_layers(config)), model.state_dict()
    else:
        raise NoCounterpart(f"the image tower {_name(model.visual)}")
    made.load_state_dict(_renamed(state, rules, made))
    return made.eval()


def _renamed(state: dict[str, torch.Tensor], rules: list[Rule], made: nn.Module) -> dict[str, torch.Tensor]:
    known = {name for rule in rules for name in rule.ours}
    state = {name: value for name, value in state.items() if not name.endswith("attn_mask")}
    if odd := sorted(known ^ state.keys()):
        raise NoCounterpart(f"the weight {odd[0]}")
    own = made.state_dict()
    return {name: value.reshape(own[name].shape) for name, value in to_theirs(state, rules).items()}


def _layers(config: Any) -> tuple[int, int]:
    return config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers


def _clip_config(model: Any, text: Any) -> dict[str, Any]:
    visual = model.visual
    locked = not any(value.requires_grad for value in visual.parameters())
    for what, fits in (
        ("attentional pooling of the image tower", visual.attn_pool is None),
        (f"{visual.pool_type!r} pooling of the image tower", visual.pool_type == "tok"),
        ("an image tower that pools before its last norm", not visual.final_ln_after_pool),
        ("an image tower without a norm before its blocks", isinstance(visual.ln_pre, nn.LayerNorm)),
        ("positions that are not learned", visual.positional_embedding.requires_grad or locked),
        ("a text tower without a causal mask", text.attn_mask is not None),
        (f"{_pooling(text)!r} pooling of the text tower", _pooling(text) in ("argmax", "eos")),
    ):
        if not fits:
            raise NoCounterpart(what)
    words = text.token_embedding.num_embeddings
    end = 2 if _pooling(text) == "argmax" and words != 49408 else words - 1  # 2 means the largest token in transformers
    end = getattr(model, "text_eos_id", getattr(text, "eos_id", end)) if _pooling(text) == "eos" else end
    width = text.token_embedding.embedding_dim
    return {
        "vision_config": _tower(visual.transformer.resblocks) | _pictures(visual) | {"projection_dim": width},
        "text_config": _tower(text.transformer.resblocks)
        | {"vocab_size": words, "max_position_embeddings": len(text.positional_embedding), "eos_token_id": end}
        | {"bos_token_id": words - 2, "pad_token_id": 0},
        "projection_dim": visual.proj.shape[1],
    }


def _siglip_config(model: Any, text: Any) -> dict[str, Any]:
    trunk = model.visual.trunk
    if not isinstance(text, TextTransformer):
        raise NoCounterpart(f"the text tower {_name(text)}")
    for what, fits in (
        ("an image tower with a class token", getattr(trunk, "cls_token", None) is None),
        ("a projection behind the pooling of the image tower", not len(model.visual.head)),
        ("a causal text tower beside SigLIP's image tower", text.attn_mask is None),
        (f"{text.pool_type!r} pooling of the text tower", text.pool_type == "last"),
        ("a SigLIP without a bias", getattr(model, "logit_bias", None) is not None),
    ):
        if not fits:
            raise NoCounterpart(what)
    patch = trunk.patch_embed.patch_size[0]
    image = _tower(trunk.blocks, "norm1", "act", "fc1")
    words = {"vocab_size": text.token_embedding.num_embeddings, "max_position_embeddings": text.context_length}
    return {
        "vision_config": image | {"image_size": model.visual.image_size[0], "patch_size": patch},
        "text_config": _tower(text.transformer.resblocks) | words | {"projection_size": trunk.num_features},
    }


def _tower(blocks: Any, norm: str = "ln_1", act: str = "gelu", wide: str = "c_fc") -> dict[str, Any]:
    """The shape of a transformer; `norm`, `act` and `wide` are the names of the modules of a block and its MLP."""
    first = blocks[0]
    linear = getattr(first.mlp, wide)
    return {
        "hidden_size": linear.in_features,
        "intermediate_size": linear.out_features,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": first.attn.num_heads,
        "hidden_act": _activation(getattr(first.mlp, act)),
        "layer_norm_eps": getattr(first, norm).eps,
    }


def _activation(module: nn.Module) -> str:
    if isinstance(module, QuickGELU):
        return "quick_gelu"
    if isinstance(module, GELUTanh) or (isinstance(module, nn.GELU) and module.approximate == "tanh"):
        return "gelu_pytorch_tanh"
    if isinstance(module, nn.GELU) or type(module).__name__ == "GELU":
        return "gelu"
    raise NoCounterpart(f"the activation {type(module).__name__}")


def _pictures(visual: Any) -> dict[str, Any]:
    (height, width), (patch, other) = visual.image_size, visual.patch_size
    if height != width or patch != other:
        raise NoCounterpart(f"an image tower for {height} x {width} pixels in patches of {patch} x {other}")
    return {"image_size": height, "patch_size": patch}


def _pooling(text: Any) -> str:
    return getattr(text, "text_pool_type", None) or text.pool_type


def _name(tower: Any) -> str:
    trunk = getattr(tower, "trunk", None)
    known = getattr(trunk, "pretrained_cfg", None) or {}
    inner = known.get("architecture") or (type(trunk).__name__ if trunk is not None else "")
    return f"{type(tower).__name__} {inner}".strip()


def image_processor(model: Any) -> Any:
    """transformers' image processor with the resizing and normalisation of an open_clip model.

    Pixels differ by at most one level of 255, because transformers resizes with torchvision and open_clip with Pillow.
    If an odd number of pixels is cropped, its crop may lie one pixel nearer to the corner.
    """
    import transformers

    how = model.visual.preprocess_cfg
    size = how["size"][0] if isinstance(how["size"], tuple | list) else how["size"]
    if how["resize_mode"] not in ("shortest", "squash"):
        raise NoCounterpart(f"pictures resized by {how['resize_mode']!r}")
    squash = how["resize_mode"] == "squash"
    return transformers.CLIPImageProcessor(
        size={"height": size, "width": size} if squash else {"shortest_edge": size},
        crop_size={"height": size, "width": size},
        do_center_crop=not squash,
        resample={"bilinear": 2, "bicubic": 3}[how["interpolation"]],
        image_mean=list(how["mean"]),
        image_std=list(how["std"]),
    )


def tokenizer(tokenize: Any) -> Any:
    """transformers' tokenizer with the words of open_clip's. It pads with the end token, not with 0."""
    import transformers

    if isinstance(tokenize, open_clip.tokenizer.SimpleTokenizer):
        ends = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}  # one token, two spellings
        vocabulary = {ends.get(word, word): number for word, number in tokenize.encoder.items()}
        merges: Any = list(tokenize.bpe_ranks)  # pairs, unlike the type in transformers
        return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=tokenize.context_length)
    if not hasattr(tokenize, "tokenizer"):
        raise NoCounterpart(f"the tokenizer {type(tokenize).__name__}")
    tokenize.tokenizer.model_max_length = tokenize.context_length
    return tokenize.tokenizer
