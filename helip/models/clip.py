"""CLIP models from open_clip's factory, with weights of a tag, a file or a checkpoint."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from PIL import Image
from torch import nn

from helip.artifacts.atomic import digest, path_digest, read_json
from helip.errors import HelipError, nearest
from helip.models import small_towers  # noqa: F401  registers towers with timm
from helip.models.checkpoints import load_clip_weights, load_state
from helip.secrets import without_environment
from helip.typed import operation, result

LOCAL, HUB, TRANSFORMERS = "local-dir:", "hf-hub:", "hf:"
ImageTransform = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class ModelSpec:
    """The model that the configuration names.

    Attributes:
        name: a name of open_clip or of the embedded models; local-dir:FOLDER or hf-hub:ID, open_clip's names for an
            architecture with weights; or hf:FOLDER_OR_ID, a checkpoint of transformers.
        pretrained: an open_clip tag, a file, or None for random weights.
        lr: peak learning rate of continued training, the default of optim.lr.
        betas, eps: defaults of optim.betas and optim.eps, if the model has its own.
        arguments: further keyword arguments of open_clip.create_model_and_transforms, such as force_patch_dropout.
        config: a .json file with an architecture in open_clip's format; `name` is then only a label.
    """

    name: str = result(firm="the weights are those of that model")
    pretrained: str | None = result()
    lr: float = operation(default=1e-5)  # these three count as optim.lr, optim.betas and optim.eps
    betas: list[float] | None = operation(default=None, inner=True)
    eps: float | None = operation(default=None, inner=True)
    arguments: dict[str, Any] = result(default_factory=dict)
    config: str | None = result(default=None, inner=True)

    def identity(self) -> dict[str, Any]:
        """What the weights depend on: the content of a file or folder, the name of a tag."""
        name, weights = self.name, self.pretrained
        if weights is not None and Path(weights).is_file():
            weights = path_digest(Path(weights))
        if (folder := self.folder) is not None:
            schema, content = f"{name.partition(':')[0]}:", path_digest(folder)
            name, weights = (schema, content) if weights is None else (schema + content, weights)
        if self.config is not None and Path(self.config).is_file():
            name = path_digest(Path(self.config))
        identity = {"name": name, "pretrained": weights}
        return identity | {"arguments": self.arguments} if self.arguments else identity

    @property
    def folder(self) -> Path | None:
        """The folder of a name such as local-dir:FOLDER or hf:FOLDER; None for other names."""
        if self.name.startswith(LOCAL):
            return Path(self.name.removeprefix(LOCAL))
        folder = Path(self.name.removeprefix(TRANSFORMERS))
        return folder if self.name.startswith(TRANSFORMERS) and folder.is_dir() else None

    @property
    def random(self) -> bool:
        """Whether the weights are random."""
        return self.pretrained is None and not self.name.startswith((LOCAL, HUB, TRANSFORMERS))


@dataclass(frozen=True)
class Clip:
    """A model with its transforms and tokenizer."""

    model: nn.Module
    train_transform: ImageTransform
    eval_transform: ImageTransform
    tokenize: Callable[[list[str]], torch.Tensor]
    spec: ModelSpec

    @property
    def description(self) -> dict:
        """The description in a checkpoint, from which evaluate.py rebuilds the model."""
        return without_environment(asdict(self.spec))

    @property
    def logit_scale(self) -> float:
        """The factor of the logits, exp of the model's parameter."""
        scale: Any = self.model.logit_scale
        return float(scale.detach().exp())


def create_clip(spec: ModelSpec) -> Clip:
    """Build a model and load its weights. Raises HelipError for an unknown name or tag, or weights that do not fit."""
    name, arguments, weights = _architecture(spec)
    if not name.startswith((HUB, LOCAL)) and open_clip.get_model_config(name) is None:
        meant = nearest(name, open_clip.list_models(), 0.5)
        raise HelipError(f"open_clip has no model {name!r}{meant}: open_clip.list_models() lists them")
    check_image_size(spec, name)
    is_file = spec.pretrained is not None and Path(spec.pretrained).is_file()
    tag = None if is_file else spec.pretrained
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag is not None and tag not in tags and "hf-hub" not in name:
        raise HelipError(
            f"model.pretrained={tag} is neither a file nor a tag of {spec.name}{nearest(tag, tags, 0.5)}; its tags are "
            f"{', '.join(tags) or 'none'}"
        )
    try:
        with _hidden_warnings(
            is_file or weights is not None
        ):  # open_clip warns about random weights, which are loaded below
            made: Any = open_clip.create_model_and_transforms(name, pretrained=tag, output_dict=True, **arguments)
        tokenize = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError, TypeError, ImportError) as error:
        cure = "; without a network name the weights, model.pretrained=FILE" if tag or HUB in spec.name else ""
        raise HelipError(
            f"{spec.name} with the weights {tag} cannot be loaded: {(str(error).splitlines() or [''])[0]}{cure}"
        ) from error
    model, train_transform, eval_transform = made
    if is_file:
        load_clip_weights(model, Path(str(spec.pretrained)))
    elif weights is not None:
        load_state(model, weights, spec.name)
    return Clip(model, train_transform, eval_transform, tokenize, spec)


def architecture_of(spec: ModelSpec) -> dict[str, Any]:
    """The open_clip config of a model, in the form of its model_configs/*.json."""
    found = open_clip.get_model_config(_architecture(replace(spec, pretrained=spec.pretrained or ""))[0])
    assert found is not None  # create_clip has registered it
    return found


def _architecture(spec: ModelSpec) -> tuple[str, dict[str, Any], dict[str, torch.Tensor] | None]:
    """Name and factory arguments of a model for open_clip, and weights that open_clip cannot load."""
    if spec.config is not None:
        try:
            return _registered(read_json(Path(spec.config))), spec.arguments, None
        except (OSError, ValueError) as error:
            raise HelipError(f"model.config={spec.config} cannot be read: give a .json file ({error})") from error
    if not spec.name.startswith(TRANSFORMERS):
        return spec.name, spec.arguments, None
    from helip.models.from_transformers import read_transformers

    found = read_transformers(spec.name.removeprefix(TRANSFORMERS), weights=spec.pretrained is None)
    return _registered(found.architecture), found.preprocess | spec.arguments, found.weights


def _registered(architecture: Any) -> str:
    """Register an architecture with open_clip. Returns its name, from which open_clip's factory derives no settings."""
    lacking = [part for part in ("embed_dim", "vision_cfg", "text_cfg") if part not in architecture]
    if lacking:
        raise HelipError(
            f"model.config lacks {', '.join(lacking)}: give the format of open_clip's model_configs/*.json"
        )
    name = f"own-{digest(architecture)}"
    if open_clip.get_model_config(name) is None:
        with TemporaryDirectory() as folder:
            (Path(folder) / f"{name}.json").write_text(json.dumps(architecture), encoding="utf-8")
            open_clip.add_model_config(Path(folder))
    return name


def check_image_size(spec: ModelSpec, name: str) -> None:
    """Raises HelipError if force_image_size is no multiple of the patch size; open_clip would cut off the rest."""
    size = spec.arguments.get("force_image_size")
    config = open_clip.get_model_config(name) if size is not None else None
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
