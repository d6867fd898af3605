"""A run or checkpoint as a folder that open_clip loads: open_clip.create_model("local-dir:OUT"); --push uploads it."""

import argparse
import json
from pathlib import Path
from typing import Any

import open_clip
import safetensors.torch
import torch

from helip.artifacts.atomic import atomic_folder, read_json
from helip.errors import HelipError
from helip.formats.model_card import model_card
from helip.formats.options import add_checkpoint, new_folder, open_checkpoint
from helip.models.clip import Clip, architecture_of

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
USAGE = """import open_clip

model, preprocess = open_clip.create_model_from_pretrained("{name}")
tokenizer = open_clip.get_tokenizer("{name}")"""


def to_open_clip_dir(clip: Clip, out: Path, card: str = "") -> list[str]:
    """Write open_clip_config.json, the weights (safetensors), the tokenizer if it is not open_clip's, and a card.

    Raises:
        HelipError: `out` exists already, or the image tower exists only in HELIP.
    """
    target = new_folder(out)
    model: Any = clip.model
    how = model.visual.preprocess_cfg
    architecture = _portable(clip)
    preprocess = {name: how[name] for name in ("mean", "std", "interpolation", "resize_mode")}
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in clip.model.state_dict().items()}
    with atomic_folder(target) as temporary:
        content = {"model_cfg": architecture, "preprocess_cfg": preprocess}
        (temporary / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        safetensors.torch.save_file(weights, temporary / WEIGHTS)
        if hasattr(clip.tokenize, "save_pretrained"):
            clip.tokenize.save_pretrained(str(temporary))
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return [f"{len(weights):,} tensors in {out}: open_clip.create_model('local-dir:{out}')"]


def _portable(clip: Clip) -> dict[str, Any]:
    """The architecture with the values that model.arguments force. Raises HelipError for a tower of HELIP alone."""
    made = architecture_of(clip.spec)
    if str(made["vision_cfg"].get("timm_model_name", "")).startswith("vit_siglip_"):
        raise HelipError(
            "this SigLIP came from transformers, and timm may have no image tower of this shape: helip convert "
            "to-transformers exports it"
        )
    model: Any = clip.model
    image, context = model.visual.image_size, getattr(model, "context_length", None)
    made["vision_cfg"]["image_size"] = image[0] if isinstance(image, tuple | list) and image[0] == image[1] else image
    if context is not None:
        made["text_cfg"]["context_length"] = context
    for name in ("quick_gelu", "custom_text"):
        if (forced := clip.spec.arguments.get(f"force_{name}")) is not None:
            made[name] = forced
    if "init_logit_bias" in clip.spec.arguments:
        made["init_logit_bias"] = clip.spec.arguments["init_logit_bias"]
    return made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("out", type=Path)
    parser.add_argument("--push", metavar="REPO", help="upload to the hub as well: open_clip's push_to_hf_hub")


def run(arguments: argparse.Namespace) -> list[str]:
    clip = open_checkpoint(arguments)
    name = f"hf-hub:{arguments.push}" if arguments.push else f"local-dir:{arguments.out.name}"
    said = to_open_clip_dir(clip, arguments.out, model_card(arguments.run, "open_clip", USAGE.format(name=name)))
    if arguments.push:
        said.append(push(clip, arguments.out, arguments.push))
    return said


def push(clip: Clip, folder: Path, repository: str) -> str:
    """Upload by open_clip's function, then replace its card by ours."""
    from huggingface_hub import upload_file
    from open_clip.push_to_hf_hub import push_to_hf_hub

    config = read_json(folder / CONFIG)["model_cfg"]
    with torch.no_grad():
        push_to_hf_hub(clip.model, clip.tokenize, config, repository, safe_serialization=True)
    upload_file(path_or_fileobj=folder / "README.md", path_in_repo="README.md", repo_id=repository)
    return f"pushed to {repository} (open_clip {open_clip.__version__})"
