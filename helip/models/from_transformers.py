"""CLIP and SigLIP checkpoints of transformers as open_clip models: model.name=hf:FOLDER_OR_ID

The towers are those of open_clip and timm. SigLIP's image tower is registered with timm under a name that contains its
shape, because timm only has the published shapes.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from helip.errors import HelipError
from helip.models.tensor_names import clip_rules, siglip_rules, to_ours

INTERPOLATION = {2: "bilinear", 3: "bicubic"}  # PIL's numbers
WORDS = 49408  # size of CLIP's vocabulary, which open_clip's tokenizer has
ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}  # transformers' names and timm's
MISSING = "model.name=hf:... needs transformers: pip install 'helip[transformers]'"


@dataclass(frozen=True)
class Checkpoint:
    """The parts from which open_clip rebuilds a model.

    Attributes:
        architecture: an open_clip model config.
        preprocess: arguments of open_clip.create_model_and_transforms.
        weights: by open_clip's names; None if they were not read.
    """

    architecture: dict[str, Any]
    preprocess: dict[str, Any]
    weights: dict[str, torch.Tensor] | None = None


def read_transformers(source: str, weights: bool = True) -> Checkpoint:
    """Read a checkpoint of transformers.

    Args:
        source: a folder, or an id of the hub; only .safetensors are read.
        weights: False reads only the configuration.

    Raises:
        HelipError: transformers is not installed, the source is missing, or open_clip has no such architecture.
    """
    try:
        import transformers
    except ImportError as error:
        raise HelipError(MISSING) from error
    if ("/" not in source or source.startswith((".", "/"))) and not Path(source).is_dir():
        raise HelipError(f"model.name=hf:{source}: there is no such folder")
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        kind = getattr(config, "model_type", None)
        if kind not in ("clip", "siglip"):
            raise HelipError(
                f"model.name=hf:{source} is a {kind}, which has no counterpart in open_clip: clip and siglip do"
            )
        architecture = clip_architecture(config, source) if kind == "clip" else siglip_architecture(config, source)
        preprocess = _preprocess(source, kind)
        if not weights:
            return Checkpoint(architecture, preprocess)
        model = transformers.AutoModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise HelipError(f"model.name=hf:{source} cannot be read: {str(error).splitlines()[0]}") from error
    rules = clip_rules if kind == "clip" else siglip_rules
    layers = config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers
    return Checkpoint(architecture, preprocess, to_ours(model.state_dict(), rules(*layers)))


def clip_architecture(config: Any, source: str) -> dict[str, Any]:
    """A CLIP as an open_clip config. Raises HelipError for an activation that open_clip lacks."""
    image, text = config.vision_config, config.text_config
    if {image.hidden_act, text.hidden_act} not in ({"gelu"}, {"quick_gelu"}):
        raise HelipError(
            f"model.name=hf:{source} has the activations {image.hidden_act} and {text.hidden_act}: open_clip has gelu "
            "or quick_gelu, the same in both towers"
        )
    words: dict[str, Any] = {"context_length": text.max_position_embeddings, "vocab_size": text.vocab_size}
    if text.vocab_size != WORDS:
        words["hf_tokenizer_name"] = source
    if text.eos_token_id not in (2, text.vocab_size - 1):  # 2: the largest token, as transformers takes old configs
        words |= {"pool_type": "eos", "eos_id": text.eos_token_id}
    return {
        "embed_dim": config.projection_dim,
        "quick_gelu": image.hidden_act == "quick_gelu",
        "vision_cfg": _shape(image)
        | {"image_size": image.image_size, "patch_size": image.patch_size}
        | {"head_width": image.hidden_size // image.num_attention_heads},
        "text_cfg": words | _shape(text) | {"heads": text.num_attention_heads},
    }


def siglip_architecture(config: Any, source: str) -> dict[str, Any]:
    """A SigLIP as an open_clip config. Raises HelipError for an activation that open_clip and timm lack."""
    image, text = config.vision_config, config.text_config
    for tower in (image, text):
        if tower.hidden_act not in ACTIVATIONS:
            raise HelipError(f"model.name=hf:{source} has the activation {tower.hidden_act}: SigLIP has gelu")
    words = {"context_length": text.max_position_embeddings, "vocab_size": text.vocab_size, "hf_tokenizer_name": source}
    act = {"act_kwargs": {"approximate": "tanh"}} if text.hidden_act == "gelu_pytorch_tanh" else {}
    pooling = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    return {
        "embed_dim": text.projection_size,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": image.image_size,
            "timm_model_name": register_tower(image),
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": words | act | pooling | _shape(text) | {"heads": text.num_attention_heads},
    }


def _shape(tower: Any) -> dict[str, Any]:
    shape = {"width": tower.hidden_size, "layers": tower.num_hidden_layers}
    shape["mlp_ratio"] = tower.intermediate_size / tower.hidden_size
    return shape if tower.layer_norm_eps == 1e-5 else shape | {"norm_kwargs": {"eps": tower.layer_norm_eps}}


def register_tower(tower: Any) -> str:
    """Register a SigLIP image tower of this shape with timm. Returns its name."""
    shape = {
        "img_size": tower.image_size,
        "patch_size": tower.patch_size,
        "embed_dim": tower.hidden_size,
        "depth": tower.num_hidden_layers,
        "num_heads": tower.num_attention_heads,
        "mlp_ratio": tower.intermediate_size / tower.hidden_size,
        "act_layer": ACTIVATIONS[tower.hidden_act],
    }
    name = "vit_siglip_" + "_".join(str(value).replace(".", "p") for value in shape.values())
    if not timm.is_model(name):
        norm = partial(nn.LayerNorm, eps=tower.layer_norm_eps)

        def entry(pretrained: bool = False, **arguments: Any) -> nn.Module:
            from timm.models.vision_transformer import VisionTransformer

            known = {key: value for key, value in arguments.items() if not key.startswith(("pretrained", "cache"))}
            return VisionTransformer(**shape, class_token=False, norm_layer=norm, **known)

        entry.__name__ = name
        timm.models.register_model(entry)
    return name


def _preprocess(source: str, kind: str) -> dict[str, Any]:
    """From preprocessor_config.json, or the defaults of its kind. Raises HelipError for a crop that open_clip lacks."""
    from transformers import CLIPImageProcessor

    try:
        found = CLIPImageProcessor.get_image_processor_dict(source)[0]
    except OSError:
        found = {}
    half = [0.5, 0.5, 0.5]
    defaults = {"image_mean": half, "image_std": half} if kind == "siglip" else {}
    arguments = defaults | {name: found[name] for name in ("image_mean", "image_std") if name in found}
    size, crop = found.get("size", {}), found.get("crop_size", {})
    size = {"shortest_edge": size} if isinstance(size, int) else size
    shortest = size.get("shortest_edge")
    if shortest and isinstance(crop, dict) and crop.get("height", shortest) != shortest:
        raise HelipError(
            f"model.name=hf:{source} resizes to {shortest} and crops {crop['height']}: open_clip resizes to the crop"
        )
    arguments["image_resize_mode"] = "shortest" if shortest or (kind == "clip" and not size) else "squash"
    arguments["image_interpolation"] = INTERPOLATION.get(found.get("resample", 3), "bicubic")
    return arguments
