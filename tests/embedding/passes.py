"""An embedding pass with fake encoders, as the programs run it."""

from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
from rich.console import Console

from helip.artifacts.shards import ShardIndex
from helip.embedding.encoders import Encoders
from helip.embedding.ensure import EmbeddingRequest, ensure_embeddings
from tests.embedding.fakes import fake_encoders

QUIET = Console(quiet=True)


class Recorded:
    """Creates fake encoders and remembers them, to count the rows that were computed."""

    def __init__(self) -> None:
        self.made: list[Encoders] = []

    def __call__(self) -> Encoders:
        self.made.append(fake_encoders())
        return self.made[-1]

    @property
    def rows(self) -> int:
        """Without the black image by which the width of each is measured."""
        return sum(encoders.image.rows - 1 for encoders in self.made)  # type: ignore[attr-defined]


def request(create, **changes) -> EmbeddingRequest:
    return replace(EmbeddingRequest("fake", {"encoders": "fake"}, create, batch_size=4, workers=0), **changes)


def ensure(asked: EmbeddingRequest, index: ShardIndex, parent: Path, trainer: pl.Trainer, wanted=None, console=QUIET):
    """(store, its folder): named as the pipeline names it."""
    folder = parent / f"fake-{asked.hash(index)}"
    wanted = index.valid if wanted is None else wanted
    return ensure_embeddings(asked, index, wanted, folder, trainer, console), folder
