"""HELIP: mine hard pairs from the data a CLIP model was trained on, and boost the model by training on them.

arXiv 2305.05208. The six names below are the public interface; they are loaded when first used, because the shard
index must not wait for torch. open_clip knows the embedded model, `emoji_tiny`, once this package is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from helip.embedded.registered import register_models

if TYPE_CHECKING:
    from helip.artifacts.hard_pairs import HardPairIndex
    from helip.artifacts.shards import ShardIndex
    from helip.data.loader import hard_pair_loader
    from helip.embedding.embed import embed
    from helip.mining.miner import mine_hard_pairs
    from helip.training.losses import HelipLoss

__all__ = ["HardPairIndex", "HelipLoss", "ShardIndex", "embed", "hard_pair_loader", "mine_hard_pairs"]
__version__ = "0.1.0"

_HOMES = {
    "HardPairIndex": "helip.artifacts.hard_pairs",
    "HelipLoss": "helip.training.losses",
    "ShardIndex": "helip.artifacts.shards",
    "embed": "helip.embedding.embed",
    "hard_pair_loader": "helip.data.loader",
    "mine_hard_pairs": "helip.mining.miner",
}

register_models()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'helip' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
