"""The two frozen encoders whose similarities define a hard pair.

An encoder is a module that maps a batch to embeddings. It has the `transform` or `tokenize` of the loader.
Legend: B samples, d embedding width.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from PIL import Image
from torch import nn
from torch.nn import functional

from helip.data.transforms import ImageTransform
from helip.errors import HelipError
from helip.typed import Leaf, operation, result


@dataclass(frozen=True)
class EncoderSettings:
    """The settings (conf/encoders) of a pair of encoders, or of precomputed embeddings.

    Attributes:
        near_duplicate, min_similarity: suitable limits, the defaults of helip.near_duplicate and helip.min_similarity.
        image, text: the `_target_` node of an encoder; a model for `clip`; files for `precomputed`.
    """

    name: str = result()
    near_duplicate: float = operation()
    min_similarity: float = operation()
    image: Leaf[Any] | dict[str, Any] | str = result()
    text: Leaf[Any] | dict[str, Any] | str | None = result()
    compile: bool = operation(default=False)


class ImageEncoder(Protocol):
    transform: ImageTransform

    def __call__(self, image: torch.Tensor) -> torch.Tensor: ...  # (B, 3, H, W) -> (B, d)


class TextEncoder(Protocol):
    tokenize: Callable[[list[str]], Any]

    def __call__(self, tokens: Any) -> torch.Tensor: ...  # the result of tokenize -> (B, d)


@dataclass(frozen=True)
class Encoders:
    """A named pair of encoders."""

    name: str
    image: ImageEncoder
    text: TextEncoder


def compile_encoders(encoders: Encoders) -> None:
    """Apply torch.compile to the modules in place, so that weights keep their names."""
    for encoder in (encoders.image, encoders.text):
        if isinstance(encoder, nn.Module):
            encoder.compile()


class ClipImageEncoder(nn.Module):
    """The image tower of an open_clip model."""

    def __init__(self, model: nn.Module, transform: ImageTransform) -> None:
        super().__init__()
        self.model: Any = model  # open_clip's model classes share no typed base
        self.transform = transform

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.model.encode_image(image).float(), dim=-1)  # (B, d)


class ClipTextEncoder(nn.Module):
    """The text tower of an open_clip model; `tokenize` as open_clip.get_tokenizer returns it."""

    def __init__(self, model: nn.Module, tokenize: Callable[[list[str]], torch.Tensor]) -> None:
        super().__init__()
        self.model: Any = model
        self.tokenize = tokenize

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.model.encode_text(tokens).float(), dim=-1)  # (B, d)


class TimmEncoder(nn.Module):
    """Pooled features of a timm model without its classifier.

    Args:
        model: timm name, such as `vit_small_patch14_reg4_dinov2`.
        image_size: pixels; the default of DINOv2 models would be 518.
        pretrained: False gives random weights (tests), a path loads a local checkpoint.
    """

    def __init__(self, model: str, image_size: int = 224, pretrained: bool | str = True) -> None:
        super().__init__()
        import timm
        from timm.data.config import resolve_data_config
        from timm.data.transforms_factory import create_transform
        from timm.models import load_checkpoint

        sized: dict[str, Any] = {"img_size": image_size} if model.startswith("vit") else {}

        def create() -> nn.Module:
            network = timm.create_model(model, num_classes=0, pretrained=pretrained is True, **sized)
            if isinstance(pretrained, str):  # create_model may unpickle, depending on the version of timm
                load_checkpoint(network, pretrained, weights_only=True)
            return network

        self.network = _download(create, model).eval()
        config = resolve_data_config({"input_size": (3, image_size, image_size)}, model=self.network)
        self.transform: Any = create_transform(**config, is_training=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.network(image).float(), dim=-1)  # (B, d)


class SentenceEncoder(nn.Module):
    """A SentenceTransformer from the hub or a folder."""

    def __init__(self, model: str) -> None:
        super().__init__()
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise HelipError("these encoders need sentence-transformers: pip install 'helip[encoders]'") from error

        self.network = _download(lambda: SentenceTransformer(model, device="cpu"), model).eval()

    def tokenize(self, captions: list[str]) -> dict[str, torch.Tensor]:
        network: Any = self.network  # sentence-transformers 6 renames the method
        return network.preprocess(captions) if hasattr(network, "preprocess") else network.tokenize(captions)

    def forward(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional.normalize(self.network(tokens)["sentence_embedding"].float(), dim=-1)  # (B, d)


def _download(create: Callable[[], Any], name: str) -> Any:
    """Create a model whose weights may come from a hub."""
    try:
        return create()
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HelipError(
            f"the encoder {name} cannot be loaded ({reason}): check the name and the network; without a network take"
            " encoders=clip, or local weights: encoders.image.pretrained=FILE, encoders.text.model=FOLDER"
        ) from error


def embedding_dims(encoders: Encoders, device: torch.device | str = "cpu") -> tuple[int, int]:
    """(d_I, d_T), measured on a black image and a short caption."""
    pixels = encoders.image.transform(Image.fromarray(np.zeros((64, 64, 3), np.uint8))).unsqueeze(0)
    with torch.inference_mode(), evaluation_mode(encoders.image, encoders.text):
        image = encoders.image(pixels.to(device))
        text = encoders.text(move_data_to_device(encoders.text.tokenize(["a photo"]), device))
    return image.shape[1], text.shape[1]


@contextmanager
def evaluation_mode(*encoders: object) -> Iterator[None]:
    """Put modules into evaluation mode inside the block, and restore the mode of every module afterwards."""
    modules = [encoder for encoder in encoders if isinstance(encoder, nn.Module)]
    training = [part for module in modules for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
