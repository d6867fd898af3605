"""A training transform in two halves: the worker transforms one image in bytes, the device normalises a batch.

Workers transfer bytes instead of float32, and ToTensor and Normalize run once per batch with bit-identical results.
torch's uint8 kernel also resizes open_clip's crop, in half the time of Pillow; under 1 % of the values differ, by at
most one level of 255 (docs/training.md, Speed).
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import Compose, InterpolationMode, Normalize, PILToTensor, RandomResizedCrop, ToTensor

from helip.data.transforms import ImageTransform, seeded_transform

SeededTransform = Callable[[Image.Image, int], torch.Tensor]  # image, seed -> (3, H, W)


@dataclass(frozen=True)
class Normalization:
    """ToTensor and Normalize of a batch of bytes, in torchvision's order of operations."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) uint8 -> float32."""
        mean, std = _per_channel(self.mean, image.device), _per_channel(self.std, image.device)
        return image.to(torch.float32).div_(255).sub_(mean).div_(std)


@cache
def _per_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(3, 1, 1), cached: a copy to a GPU would wait for its queue."""
    return torch.tensor(values, device=device).view(-1, 1, 1)


@dataclass(frozen=True)
class ByteCrop:
    """torchvision's RandomResizedCrop, bicubic with antialiasing: RGB image and seed -> (3, height, width) uint8.

    Attributes:
        size: height and width of the result.
        scale: smallest and largest area of a crop, as shares of the image.
        ratio: smallest and largest width / height of a crop.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    ratio: tuple[float, float]

    def __call__(self, image: Image.Image, seed: int) -> torch.Tensor:
        top, left, height, width = self.box(*image.size, random.Random(seed))
        pixels = torch.from_numpy(np.array(image.crop((left, top, left + width, top + height))))  # (h, w, 3)
        resized = torch.nn.functional.interpolate(
            pixels.permute(2, 0, 1)[None], self.size, mode="bicubic", antialias=True
        )
        return resized[0].contiguous()

    def box(self, width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop: RandomResizedCrop.get_params without its tensors (50 us an image)."""
        area, (low, high) = width * height, (math.log(bound) for bound in self.ratio)
        for _ in range(10):
            crop, ratio = area * draw.uniform(*self.scale), math.exp(draw.uniform(low, high))
            w, h = round(math.sqrt(crop * ratio)), round(math.sqrt(crop / ratio))
            if 0 < w <= width and 0 < h <= height:
                return draw.randint(0, height - h), draw.randint(0, width - w), h, w
        w = min(width, round(height * self.ratio[1]))  # fallback of torchvision: the largest central crop
        h = min(height, round(width / self.ratio[0]))
        return (height - h) // 2, (width - w) // 2, h, w


def split_still(transform: ImageTransform) -> tuple[ImageTransform, Normalization | None]:
    """Split a transform without randomness into a half to (3, H, W) bytes and the normalisation; None: impossible."""
    steps = transform.transforms if isinstance(transform, Compose) else []
    if len(steps) < 2 or not isinstance(steps[-2], ToTensor) or not isinstance(steps[-1], Normalize):
        return transform, None
    *head, _, norm = steps
    normalization = Normalization(tuple(map(float, norm.mean)), tuple(map(float, norm.std)))
    return Compose([*head, PILToTensor()]), normalization


def split_transform(transform: ImageTransform) -> tuple[SeededTransform, Normalization | None]:
    """Split a transform, image to (3, H, W), into the halves of the worker and of the device.

    Only a Compose that ends in ToTensor and Normalize can be split; None: the worker does everything.
    """
    still, normalization = split_still(transform)
    if normalization is None:
        return partial(seeded_transform, transform), None
    head = still.transforms[:-1]  # type: ignore[attr-defined]
    first = head[0] if head else None
    if (
        isinstance(first, RandomResizedCrop)
        and first.interpolation == InterpolationMode.BICUBIC
        and first.antialias
        and all(type(step).__name__ == "MaybeConvertMode" for step in head[1:])  # images are RGB already
    ):
        return ByteCrop(tuple(first.size), tuple(first.scale), tuple(first.ratio)), normalization  # type: ignore[arg-type]
    return partial(seeded_transform, still), normalization
