"""A small image tower for timm: a ResNet of four blocks with GroupNorm, for 32 pixels.

Decision: GroupNorm, because hard pairs would shift BatchNorm's statistics, and two ranks would differ from one.
1.3 M parameters; with the text tower of embedded/icons_small.json a core does about 1,000 training pairs a second.
"""

from functools import partial
from typing import Any

from timm.layers.norm import GroupNorm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

default_cfgs = generate_default_cfgs(
    {"resnet_gn_small": {"input_size": (3, 32, 32), "pool_size": (1, 1), "first_conv": "conv1.0", "classifier": "fc"}}
)


@register_model
def resnet_gn_small(pretrained: bool = False, **arguments: Any) -> ResNet:
    """Deep stem, blocks of 32, 64, 128 and 256 channels; without pretrained weights."""
    shape: dict[str, Any] = {
        "block": BasicBlock,
        "layers": (1, 1, 1, 1),
        "channels": (32, 64, 128, 256),
        "stem_type": "deep",
        "stem_width": 16,
        "norm_layer": partial(GroupNorm, num_groups=8),
    }
    return build_model_with_cfg(ResNet, "resnet_gn_small", pretrained, **shape, **arguments)
