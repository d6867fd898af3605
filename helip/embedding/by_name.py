"""Encoders by a name of timm, sentence-transformers or open_clip: encoders=any

A name with a colon belongs to open_clip: `open_clip:ViT-B-32:laion2b_s34b_b79k`, `open_clip:NAME` for random weights,
and `hf-hub:ID`, `local-dir:FOLDER`, `hf:FOLDER_OR_ID` as in model.name. These work for images and texts.
"""

from typing import Any

from helip.embedding.encoders import ClipImageEncoder, ClipTextEncoder, SentenceEncoder, TimmEncoder
from helip.errors import HelipError
from helip.models.clip import Clip, ModelSpec, create_clip

OPEN_CLIP, FOLDERS = "open_clip:", ("hf-hub:", "local-dir:", "hf:")


def image_encoder(model: str, image_size: int | None = None, pretrained: bool | str = True) -> Any:
    """The image encoder.

    Args:
        model: a timm name, or one of open_clip's as above.
        image_size: pixels, for timm's models; None: the size of the training of the weights.
        pretrained: of timm's models: False gives random weights, a path loads a local checkpoint.

    Raises:
        HelipError: an unknown name, or weights that cannot be fetched.
    """
    if clip := _open_clip(model):
        return ClipImageEncoder(clip.model, clip.eval_transform)
    import timm

    if not timm.is_model(model):
        raise HelipError(f"encoders.image.model={model}: timm knows no such model; open_clip's begin with {OPEN_CLIP}")
    size = image_size
    if size is None:
        known = timm.get_pretrained_cfg(model)
        size = known.input_size[-1] if known is not None else 224
    return TimmEncoder(model, size, pretrained)


def text_encoder(model: str) -> Any:
    """The text encoder: name or folder of a SentenceTransformer, or an open_clip name as above."""
    if clip := _open_clip(model):
        return ClipTextEncoder(clip.model, clip.tokenize)
    return SentenceEncoder(model)


def _open_clip(model: str) -> Clip | None:
    if model.startswith(FOLDERS):
        return create_clip(ModelSpec(model, None))
    if not model.startswith(OPEN_CLIP):
        return None
    name, _, tag = model.removeprefix(OPEN_CLIP).partition(":")
    return create_clip(ModelSpec(name, tag or None))
