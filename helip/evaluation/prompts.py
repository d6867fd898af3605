"""From label strings and prompt templates to a zero-shot classifier."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from helip.embedding.encoders import evaluation_mode
from helip.errors import HelipError

Template = str | Callable[[str], str]

# open_clip's sets of prompts for ImageNet.
NAMED_TEMPLATES: dict[str, tuple[Template, ...]] = {
    "openai": tuple(open_clip.OPENAI_IMAGENET_TEMPLATES),
    "simple": tuple(open_clip.SIMPLE_IMAGENET_TEMPLATES),
}


def readable(label: str) -> str:
    """A label with spaces in the place of `-` and `_`: 'face-smiling' becomes 'face smiling'."""
    return " ".join(label.replace("-", " ").replace("_", " ").split())


def template(text: str) -> Callable[[str], str]:
    """A function that puts a class into a prompt, in the place of `{}` or of clip-benchmark's `{c}`."""
    return partial(_filled, text)


def _filled(text: str, name: str) -> str:
    try:
        return text.format(c=name) if "{c}" in text else text.format(name)
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise HelipError(f"template {text!r} cannot be filled in: write {{}} in the place of the class") from error


def prompts(
    templates: Sequence[Template] | str | None, names: Sequence[str], own: Sequence[Template] = ()
) -> tuple[Template, ...]:
    """The templates that a configuration asks for.

    Args:
        templates: prompts with `{}` or `{c}` for the class, or the name of a set of them; None: `own`.
        names: of the C classes.
        own: templates of the data.

    Raises:
        HelipError: no such set, a template that cannot be filled in, or one that gives two names the same prompt.
    """
    if isinstance(templates, str):
        if templates not in NAMED_TEMPLATES:
            raise HelipError(f"templates={templates}: give a list of prompts, or {' or '.join(NAMED_TEMPLATES)}")
        templates = NAMED_TEMPLATES[templates]
    wanted = own if templates is None else templates
    if not wanted:
        raise HelipError("there is no template: give a list of prompts, or leave the key `templates` out")
    chosen = tuple(one if callable(one) else template(str(one)) for one in wanted)
    for one in chosen:
        said: dict[str, str] = {}
        for name in names:
            first = said.setdefault(one(name), name)
            if first != name:
                raise HelipError(
                    f"a template gives the classes {first!r} and {name!r} the same prompt {one(name)!r}: "
                    "write {} in the place of the class"
                )
    return chosen


def classes_of(labels: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Class names in sorted order, and the class of each row.

    Returns:
        names: the C distinct labels that are not empty, unchanged.
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
    """Class embeddings by open_clip's own function, in evaluation mode.

    Args:
        model: an open_clip model, or another with `encode_text(tokens, normalize=True)`.
        tokenizer: texts -> tokens.
        names: C class names.
        templates: functions of the name, or strings with `{}` in its place; the prompts of a class are averaged.
        device: where the model is.

    Returns:
        (D, C) float32, columns of length 1.
    """
    # open_clip decides by the first template whether all are strings.
    prompts = [template.format if isinstance(template, str) else template for template in templates]
    with evaluation_mode(model):
        weights = open_clip.build_zero_shot_classifier(model, tokenizer, list(names), prompts, device=device)
    return weights.float().cpu().numpy()
