"""The settings of the encoders (conf/encoders)."""

from dataclasses import dataclass
from typing import Any

from helip.typed import Leaf, operation, result


@dataclass(frozen=True)
class EncoderSettings:
    """A named pair of encoders, or of precomputed embeddings.

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
