"""From image bytes to the input tensor of a model; every random choice depends on (seed, visit, row)."""

import io
import math
import random
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop, Resize

from helip.data.reader import Unreadable

ImageTransform = Callable[[Image.Image], torch.Tensor]

# Formats of crawled data. Pillow's plugins for rarer formats raise arbitrary exceptions; PostScript starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM")
# Raised by these plugins for damaged files, besides Pillow's own errors (AVIF: RuntimeError, ArithmeticError).
BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error, zlib.error)
BROKEN += (RuntimeError, ArithmeticError)
MAX_PIXELS = 89_478_485  # Pillow warns above it, and refuses twice as many
MAX_RATIO = 1000  # assumption: a thinner strip, resized to 224 pixels on its short side, would exhaust the memory


def decode_image(data: bytes, draft: int = 0) -> Image.Image:
    """Decode the first frame as RGB, with transparency on white and the full range of 16-bit greys.

    Args:
        draft: decode JPEGs at 1/2, 1/4 or 1/8 of their size (the scaling is part of the inverse transform) if both
            sides keep this many pixels; 0 decodes every pixel.

    Raises:
        Unreadable: no image, a damaged one, more pixels than Pillow's limit, or a thin strip.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is checked here
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        size = image.size
        if size[0] * size[1] <= MAX_PIXELS and max(size) <= MAX_RATIO * min(size):
            if draft and image.format == "JPEG":
                image.draft(None, (draft, draft))
            image.load()
            return _as_rgb(image)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"its image is too large ({str(error).split(',')[0]})") from error
    except BROKEN as error:
        raise Unreadable(f"its image cannot be decoded ({type(error).__name__})") from error
    raise Unreadable(f"its image is too large or too thin ({size[0]} x {size[1]} pixels)")


def draft_size(transform: object) -> int:
    """The `draft` of decode_image for a training transform: its smallest crop keeps 1.5 pixels per output pixel.

    0 (no draft) if the transform does not begin with torchvision's RandomResizedCrop.
    """
    first = next(iter(getattr(transform, "transforms", [])), None)
    if not isinstance(first, RandomResizedCrop):
        return 0
    smallest = min(first.scale) * min(*first.ratio, *(1 / ratio for ratio in first.ratio))  # area x aspect of a crop
    return math.ceil(1.5 * max(first.size) / math.sqrt(smallest))


def still_draft_size(transform: object) -> int:
    """The `draft` of decode_image for an evaluation transform: 1.5 pixels per pixel of its resized image.

    0 (no draft) if the transform does not begin with torchvision's Resize.
    """
    first = next(iter(getattr(transform, "transforms", [])), None)
    if not isinstance(first, Resize):
        return 0
    sides = [first.size] if isinstance(first.size, int) else first.size
    return math.ceil(1.5 * max(sides))


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16 or 32 bits per pixel: Pillow's own conversion clips at 255
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray((values / max(values.max(), 65535) * 255).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured).convert("RGB")
    return image.convert("RGB")


def stream_seed(*parts: int) -> int:
    """A 63-bit seed from several numbers, independent of process and machine."""
    return int(np.random.SeedSequence([part & (2**64 - 1) for part in parts]).generate_state(1, np.uint64)[0] >> 1)


def seeded_transform(transform: ImageTransform, image: Image.Image, seed: int) -> torch.Tensor:
    """Apply a transform with its randomness (torch, random) seeded by `seed`; restores the global generators."""
    before, generator = random.getstate(), torch.default_generator
    state = generator.get_state()
    try:
        generator.manual_seed(seed)  # 1 us; torch.manual_seed takes 100 us, because it seeds every device
        random.seed(seed)
        return transform(image)
    finally:
        generator.set_state(state)
        random.setstate(before)
