"""From label strings and prompt templates to a zero-shot classifier."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

Template = str | Callable[[str], str]


def readable(label: str) -> str:
    """A label as a person would say it: 'face-smiling' becomes 'face smiling', '_' likewise."""
    return " ".join(label.replace("-", " ").replace("_", " ").split())


def template(text: str) -> Template:
    """A prompt with `{}` or, as clip-benchmark writes it, `{c}` in the place of the class."""
    return partial(_filled, text) if "{c}" in text else text


def _filled(text: str, name: str) -> str:
    return text.format(c=name)


def classes_of(labels: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Class names in sorted order, and the class of each row.

    Returns:
        names: the C distinct labels that are not empty, as they stand in the data.
        label: (n,) int64 position in `names`, -1 for an empty label.
    """
    names = sorted({label for label in labels if label})
    position = {name: i for i, name in enumerate(names)}
    return names, np.array([position.get(label, -1) for label in labels], np.int64)


def class_embeddings(
    model: torch.nn.Module,
    tokenizer: Callable,
    names: Sequence[str],
    templates: Sequence[Template],
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Class embeddings by open_clip's own function; the model's train or eval mode is as before afterwards.

    Args:
        model: an open_clip model (or anything with `encode_text(tokens, normalize=True)`).
        tokenizer: texts -> tokens.
        names: C class names.
        templates: each a function of the name, or a string with `{}` in its place; the prompts of a class are averaged.
        device: where the model is.

    Returns:
        (D, C) float32, columns of length 1.
    """
    # open_clip looks at the first template only to decide whether all are strings.
    prompts = [template.format if isinstance(template, str) else template for template in templates]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        weights = open_clip.build_zero_shot_classifier(model, tokenizer, list(names), prompts, device=device)
    finally:
        for module in training:
            module.training = True
    return weights.float().cpu().numpy()
