"""From image bytes to the tensor that a model wants, with every random choice tied to (seed, visit, row)."""

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

# What a crawl holds. Pillow's plugins for rarer files raise whatever they like, that for PostScript starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM")
# What those plugins raise on damaged files, besides Pillow's own errors (AVIF: RuntimeError, ArithmeticError).
BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error, zlib.error)
BROKEN += (RuntimeError, ArithmeticError)
MAX_PIXELS = 89_478_485  # above it Pillow warns, above twice that it refuses
MAX_RATIO = 1000  # assumption: resized to 224 pixels on its short side, a thinner strip would fill the memory


def decode_image(data: bytes, draft: int = 0) -> Image.Image:
    """Decode the first frame as RGB; transparency is laid on white, 16-bit greys keep their range.

    Args:
        draft: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides keep so many pixels, with the
            scaling built into its inverse transform; 0 decodes every pixel.

    Raises:
        Unreadable: no image, a damaged one, one with more pixels than Pillow's own limit, or a thin strip.
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
    """Sides of a draft that are enough for a training transform: its smallest crop keeps 1.5 pixels per output pixel.

    0 (no draft) where the transform does not begin with torchvision's RandomResizedCrop.
    """
    first = next(iter(getattr(transform, "transforms", [])), None)
    if not isinstance(first, RandomResizedCrop):
        return 0
    smallest = min(first.scale) * min(*first.ratio, *(1 / ratio for ratio in first.ratio))  # area x aspect of a crop
    return math.ceil(1.5 * max(first.size) / math.sqrt(smallest))


def still_draft_size(transform: object) -> int:
    """Sides of a draft that are enough for an evaluation transform: 1.5 pixels per pixel of its resized picture.

    0 (no draft) where the transform does not begin with torchvision's Resize.
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
    """One 63-bit seed from a few numbers: the same numbers, the same draws, wherever they are made."""
    return int(np.random.SeedSequence([part & (2**64 - 1) for part in parts]).generate_state(1, np.uint64)[0] >> 1)


def seeded_transform(transform: ImageTransform, image: Image.Image, seed: int) -> torch.Tensor:
    """Apply a transform whose randomness (torch, random) comes from `seed` alone; the global generators stay put."""
    before, generator = random.getstate(), torch.default_generator
    state = generator.get_state()
    try:
        generator.manual_seed(seed)  # 1 us; torch.manual_seed takes 100 us, for it visits every kind of device
        random.seed(seed)
        return transform(image)
    finally:
        generator.set_state(state)
        random.setstate(before)
