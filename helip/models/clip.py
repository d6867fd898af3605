"""CLIP models by open_clip's own factory, from a tag, a file or a checkpoint of ours."""

import difflib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from torch import nn

from helip.artifacts.atomic import path_digest
from helip.errors import HelipError
from helip.models import small_towers  # noqa: F401  names towers for timm
from helip.models.checkpoints import load_clip_weights
from helip.secrets import without_environment

EMBEDDED = Path(__file__).parents[1] / "embedded"
LOCAL, HUB = "local-dir:", "hf-hub:"
ImageTransform = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class ModelSpec:
    """A model as the configuration names it.

    Attributes:
        name: open_clip's name; the embedded configs are known as well.
        pretrained: an open_clip tag, a file, or None for random weights.
        lr: peak learning rate of continued training; betas, eps: the optimiser's where the model has its own. The
            configuration of the optimiser reads them.
        arguments: more keyword arguments of open_clip.create_model_and_transforms, such as force_patch_dropout.
    """

    name: str
    pretrained: str | None
    lr: float = 1e-5
    betas: list[float] | None = None
    eps: float | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What the weights depend on: a file or folder counts by its content, a tag by its name."""
        name, weights = self.name, self.pretrained
        if (folder := self.folder) is not None:  # `pretrained` is ignored by open_clip
            name, weights = LOCAL, path_digest(folder)
        elif weights is not None and Path(weights).is_file():
            weights = path_digest(Path(weights))
        identity = {"name": name, "pretrained": weights}
        return identity | {"arguments": self.arguments} if self.arguments else identity

    @property
    def folder(self) -> Path | None:
        """Of a name such as local-dir:FOLDER, open_clip's way to name a model with its weights on disk."""
        return Path(self.name.removeprefix(LOCAL)) if self.name.startswith(LOCAL) else None

    @property
    def random(self) -> bool:
        """Whether the weights come from the seed alone."""
        return self.pretrained is None and not self.name.startswith((LOCAL, HUB))


@dataclass(frozen=True)
class Clip:
    """A model with what feeds it."""

    model: nn.Module
    train_transform: ImageTransform
    eval_transform: ImageTransform
    tokenize: Callable[[list[str]], torch.Tensor]
    spec: ModelSpec

    @property
    def description(self) -> dict:
        """What a checkpoint carries so that evaluate.py can rebuild the model."""
        return without_environment(asdict(self.spec))


def create_clip(spec: ModelSpec) -> Clip:
    """Build a model and load its weights.

    Raises:
        HelipError: an unknown name or tag, or a file that does not fit the model.
    """
    open_clip.add_model_config(EMBEDDED)
    if not spec.name.startswith((HUB, LOCAL)) and open_clip.get_model_config(spec.name) is None:
        raise HelipError(f"open_clip has no model {spec.name!r}: see open_clip.list_models(){_nearest(spec.name)}")
    check_image_size(spec)
    is_file = spec.pretrained is not None and Path(spec.pretrained).is_file()
    tag = None if is_file else spec.pretrained
    if tag is not None and tag not in open_clip.list_pretrained_tags_by_model(spec.name) and "hf-hub" not in spec.name:
        raise HelipError(
            f"model.pretrained={tag} is neither a file nor a tag of {spec.name}; its tags are "
            f"{', '.join(open_clip.list_pretrained_tags_by_model(spec.name)) or 'none'}"
        )
    try:
        with _hidden_warnings(is_file):  # open_clip calls the weights random that we load below
            made: Any = open_clip.create_model_and_transforms(
                spec.name, pretrained=tag, output_dict=True, **spec.arguments
            )
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        cure = "; without a network name the weights, model.pretrained=FILE" if tag or HUB in spec.name else ""
        raise HelipError(
            f"{spec.name} with the weights {tag} cannot be loaded: {(str(error).splitlines() or [''])[0]}{cure}"
        ) from error
    model, train_transform, eval_transform = made
    if is_file:
        load_clip_weights(model, Path(str(spec.pretrained)))
    return Clip(model, train_transform, eval_transform, open_clip.get_tokenizer(spec.name), spec)


def check_image_size(spec: ModelSpec) -> None:
    """Raises HelipError for a force_image_size that the patches do not divide: open_clip leaves out the rest."""
    size, config = spec.arguments.get("force_image_size"), open_clip.get_model_config(spec.name)
    patch = (config or {}).get("vision_cfg", {}).get("patch_size")
    sides = size if isinstance(size, list | tuple) else [size]
    if size is not None and patch and any(side % patch for side in sides):
        raise HelipError(
            f"model.arguments.force_image_size={size} is no multiple of the {patch}-pixel patches of {spec.name}: take "
            f"{max(1, round(sides[0] / patch)) * patch}"
        )


@contextmanager
def _hidden_warnings(hide: bool) -> Iterator[None]:
    logger, level = logging.getLogger(), logging.getLogger().level
    if hide:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, open_clip.list_models(), 1, 0.5)
    return f" (did you mean {close[0]}?)" if close else ""
