"""The settings of one mining run, and the folders of its artefacts, which are named after them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helip.artifacts.atomic import digest
from helip.artifacts.datasets import DatasetSpec, usable_rows
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.embedding.ensure import EmbeddingRequest
from helip.embedding.precomputed import Precomputed
from helip.mining.settings import SearchSettings
from helip.secrets import without_environment

# In the meta of an index: how many of the wanted rows had an embedding when it was mined, and a digest of their bytes.
EMBEDDED, CONTENT = "embedded", "content"


@dataclass(frozen=True)
class Rows:
    """What may be mined: the training part of a dataset, or all rows of bare arrays.

    Attributes:
        wanted: (N,) bool, rows that may have and be hard pairs.
        index: the shards; None for bare arrays.
    """

    wanted: np.ndarray
    fingerprint: str
    index: ShardIndex | None

    @property
    def usable(self) -> int:
        return int(self.wanted.sum())


def training_rows(index: ShardIndex, dataset: DatasetSpec) -> Rows:
    return Rows(usable_rows(index, dataset, "train"), index.fingerprint, index)


@dataclass(frozen=True)
class MiningRequest:
    """What is mined, and where it goes.

    Attributes:
        embedding: how embeddings are made, or arrays that are there already.
        topk: hard pairs per target that training will use; search.depth are stored.
        exclude_copies: pairs with the same image or caption bytes are no hard pairs of each other.
        distinct: of pairs with the same image and caption bytes a target gets the lowest row alone.
        artifacts: the folder that all runs share.
        index_folder: where the user wants the hard pairs; None names them by what made them.
    """

    dataset: DatasetSpec
    embedding: EmbeddingRequest | Precomputed
    search: SearchSettings
    topk: int
    artifacts: Path
    index_folder: Path | None = None
    exclude_copies: bool = True
    distinct: bool = True

    def folder(self, rows: Rows) -> Path:
        """Of the hard pairs."""
        name = f"{self.search.score}-{digest(self.settings() | {'fingerprint': rows.fingerprint})}"
        return self.index_folder or self.artifacts / self.dataset.name / "hard_pairs" / name

    def embedding_folder(self, index: ShardIndex) -> Path:
        """Of the embeddings of the shards; not for arrays that the user brings."""
        assert isinstance(self.embedding, EmbeddingRequest)
        name = f"{self.embedding.name}-{self.embedding.hash(index)}"
        return self.artifacts / self.dataset.name / "embeddings" / name

    def made_of(self, rows: Rows, embedded: int, content: str | None = None) -> dict[str, Any]:
        """What an index of so many embedded rows, whose bytes have this digest, says of its origin."""
        made = {"fingerprint": rows.fingerprint, "dataset": self.dataset.name, "request": self.settings()}
        return without_environment(made | {EMBEDDED: embedded} | ({CONTENT: content} if content else {}))

    def settings(self) -> dict[str, Any]:
        """All that decides the hard pairs, except the shards; JSON-like, for hashes and for naming differences."""
        search = self.search.identity()
        search.pop("depth")
        return {
            "encoders": self.embedding.name,
            "embedding": self.embedding.identity,
            "part": self.dataset.parts["train"],
            "exclude_copies": self.exclude_copies,
            "distinct": self.distinct,
            "search": search,
        }


@dataclass(frozen=True)
class Mined:
    """Hard pairs and what it took; `seconds` is empty when the index was found."""

    index: HardPairIndex
    folder: Path
    seconds: dict[str, float]
