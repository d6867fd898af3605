"""A run or checkpoint as a folder that transformers loads: AutoModel.from_pretrained(OUT)"""

import argparse
from pathlib import Path

from helip.artifacts.atomic import atomic_folder
from helip.formats.model_card import model_card
from helip.formats.options import add_checkpoint, new_folder, open_checkpoint
from helip.models.clip import Clip

USAGE = """from transformers import AutoModel, AutoProcessor

model, processor = AutoModel.from_pretrained("{name}"), AutoProcessor.from_pretrained("{name}")"""


def to_transformers(clip: Clip, out: Path, card: str = "") -> list[str]:
    """Write config, weights (safetensors), tokenizer, image processor and card. Raises HelipError if `out` exists."""
    from helip.models.to_transformers import as_transformers, image_processor, tokenizer

    target = new_folder(out)
    model, pictures, words = as_transformers(clip.model), image_processor(clip.model), tokenizer(clip.tokenize)
    with atomic_folder(target) as temporary:
        model.save_pretrained(temporary)
        pictures.save_pretrained(temporary)
        words.save_pretrained(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return [f"{type(model).__name__} with {sum(value.numel() for value in model.parameters()):,} weights in {out}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("out", type=Path)


def run(arguments: argparse.Namespace) -> list[str]:
    clip = open_checkpoint(arguments)
    card = model_card(arguments.run, "transformers", USAGE.format(name=arguments.out.name))
    return to_transformers(clip, arguments.out, card)
