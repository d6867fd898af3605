"""The settings of one mining run, and the folders of its artefacts, whose names contain a digest of the settings."""

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

# Keys in the meta of an index: how many of the wanted rows had an embedding, and a digest of their bytes.
EMBEDDED, CONTENT = "embedded", "content"


@dataclass(frozen=True)
class Rows:
    """The rows to mine: the training part of a dataset, or all rows of bare arrays.

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
    """What to mine, and where to store it.

    Attributes:
        embedding: how embeddings are made, or arrays that exist already.
        topk: hard pairs per target that training will use; search.depth are stored.
        artifacts: the folder that all runs share.
        index_folder: folder of the hard pairs; None: a folder in `artifacts` that is named by a digest of the settings.
        exclude_copies: pairs with the same image or caption bytes are no hard pairs of each other.
        distinct: of pairs with the same image and caption bytes a target gets only the lowest row.
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
        """Folder of the hard pairs."""
        name = f"{self.search.score}-{digest(self.settings() | {'fingerprint': rows.fingerprint})}"
        return self.index_folder or self.artifacts / self.dataset.name / "hard_pairs" / name

    def embedding_folder(self, index: ShardIndex) -> Path:
        """Folder of the embeddings of the shards; not for arrays that the user brings."""
        assert isinstance(self.embedding, EmbeddingRequest)
        name = f"{self.embedding.name}-{self.embedding.hash(index)}"
        return self.artifacts / self.dataset.name / "embeddings" / name

    def made_of(self, rows: Rows, embedded: int, content: str | None = None) -> dict[str, Any]:
        """Meta of an index: its origin, the number of embedded rows, and the digest of their bytes."""
        made = {"fingerprint": rows.fingerprint, "dataset": self.dataset.name, "request": self.settings()}
        return without_environment(made | {EMBEDDED: embedded} | ({CONTENT: content} if content else {}))

    def settings(self) -> dict[str, Any]:
        """All settings that decide the hard pairs, except the shards; JSON-like, for hashes and comparisons."""
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
    """Hard pairs, and the seconds of each stage; `seconds` is empty when the index existed already."""

    index: HardPairIndex
    folder: Path
    seconds: dict[str, float]
