"""Encoders: coarse colours of an image, and which letters follow each other in a caption. No weights at all.

helip mine --config-dir examples/extend/conf encoders=coarse
"""

from zlib import crc32

import torch
from torch import nn
from torch.nn import functional
from torchvision.transforms import v2


class Colours(nn.Module):
    def __init__(self, side: int = 8) -> None:
        super().__init__()
        resize = v2.Resize((side, side), antialias=True)
        self.transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), resize])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return functional.normalize(image.flatten(1) - 0.5, dim=-1)  # (B, 3, side, side) -> (B, 3 side^2)


class Trigrams(nn.Module):
    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.width = width

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        counts = torch.ones(len(captions), self.width)
        for row, caption in enumerate(captions):
            for start in range(len(caption) - 2):
                counts[row, crc32(caption[start : start + 3].encode()) % self.width] += 1
        return counts

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.normalize(tokens.log(), dim=-1)  # (B, width)
