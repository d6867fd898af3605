"""Retrieval among the neighbours of each row, which a field of the data lists, so that no model chooses them.

Legend: n rows, k neighbours of a row, d embedding width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helip.errors import HelipError
from helip.evaluation.embed import Embed, Evaluator, Found, OnPart
from helip.evaluation.metrics import rank_samples


def evaluator(line: Mapping[str, Any]) -> type[Evaluator]:
    """The class for a line of the configuration."""
    return Neighbours


@dataclass(frozen=True)
class Neighbours(OnPart):
    """Whether a row's image finds its own caption among those of its neighbours, and its caption the image.

    Attributes:
        field: json field with the keys of a row's neighbours, separated by spaces. Keys that are no rows of the part
            are ignored; a row without neighbours is left out.
        key: json field with a row's own key.
    """

    field: str = "neighbours"
    key: str = "key"

    def run(self, embed: Embed) -> Found:
        image, text, rows = embed.part(self.part)
        near = neighbour_positions(embed.fields(rows, self.key), embed.fields(rows, self.field))
        if not (near >= 0).any():
            raise HelipError(
                f"evaluator {self.name}: the field {self.field!r} names no row of part {self.part} by its "
                f"{self.key!r}: name the json fields with a row's own key and with those of its neighbours"
            )
        ranks = {"i2t": gallery_ranks(image, text, near), "t2i": gallery_ranks(text, image, near)}
        asked = (near >= 0).any(1)
        return {
            f"{direction}_{name}": sampled
            for direction, found in ranks.items()
            for name, sampled in rank_samples(found[asked], at=(1, 5)).items()
        }


def neighbour_positions(keys: Sequence[str], named: Sequence[str]) -> NDArray[np.int64]:
    """(n, k) positions of the rows that each row names; -1 for unknown keys and padding.

    Args:
        keys: key of each of the n rows.
        named: keys of each row's neighbours, separated by spaces.
    """
    position = {key: place for place, key in enumerate(keys) if key}
    found = [[position.get(name, -1) for name in names.split()] for names in named]
    return np.array(list(zip_longest(*found, fillvalue=-1)), np.int64).reshape(-1, len(keys)).T


def gallery_ranks(queries: NDArray, items: NDArray, near: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each query's own item among it and those of its neighbours; ties and NaN count against the model.

    Args:
        queries: (n, d) embeddings.
        items: (n, d) embeddings; a query's own item has the same row.
        near: (n, k) rows of the neighbours, -1 for none.

    Returns:
        (n,) int64 ranks, the best is 1.
    """
    queries, items = np.asarray(queries, np.float64), np.asarray(items, np.float64)
    own = (queries * items).sum(1).astype(np.float32)  # (n,)
    ranks = np.ones(len(queries), np.int64)
    for others in near.T:  # (n,): one neighbour of each row at a time
        score = (queries * items[others]).sum(1).astype(np.float32)
        ranks += (others >= 0) & ~(score < own)
    return ranks
