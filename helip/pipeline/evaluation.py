"""Evaluation of a CLIP model on the parts of a dataset: every sample once, on any number of ranks."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from helip.artifacts.arrays import new_array, open_array
from helip.artifacts.embeddings import GOOD, EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, Unreadable
from helip.data.transforms import ImageTransform
from helip.embedding.embedder import Embedder, PictureEmbedder, row_loader
from helip.embedding.encoders import (
    ClipImageEncoder,
    ClipTextEncoder,
    Encoders,
    embedding_dims,
    evaluation_mode,
    to_device,
)
from helip.evaluation.suite import Absent
from helip.evaluation.zeroshot import Template, class_embeddings
from helip.pipeline.dataset import DatasetSpec, usable_rows
from helip.pipeline.models import Clip
from helip.pipeline.runtime import barrier

# Runs the predict steps of a module over a loader on all ranks; every sample once.
Drive = Callable[[pl.LightningModule, DataLoader], None]


def predict_drive(trainer: pl.Trainer) -> Drive:
    """By a Lightning predict loop."""

    def drive(module: pl.LightningModule, loader: DataLoader) -> None:
        trainer.predict(module, loader, return_predictions=False)

    return drive


def inside_fit_drive(trainer: pl.Trainer) -> Drive:
    """By hand, inside a fit, where no second loop can start; the rank's share of the samples by stride."""

    def drive(module: pl.LightningModule, loader: DataLoader) -> None:
        own = Subset(loader.dataset, range(trainer.global_rank, len(loader.dataset), trainer.world_size))  # type: ignore[arg-type]
        mine = DataLoader(own, loader.batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn)
        with torch.inference_mode(), trainer.precision_plugin.predict_step_context():
            for number, batch in enumerate(mine):
                if isinstance(batch, dict):
                    batch = {name: to_device(value, trainer.strategy.root_device) for name, value in batch.items()}
                else:
                    batch = [to_device(value, trainer.strategy.root_device) for value in batch]
                module.predict_step(batch, number)

    return drive


@dataclass(frozen=True)
class ClipEmbed:
    """What evaluators ask of a model (helip.evaluation.suite.Embed).

    Attributes:
        scratch: a folder that all ranks see; emptied after use.
        device: where the class names are embedded.
    """

    clip: Clip
    dataset: DatasetSpec
    index: ShardIndex | None
    drive: Drive
    scratch: Path
    device: torch.device
    rank: int
    caption: str | Mapping[str, float] = "txt"
    batch_size: int = 256
    workers: int = 1

    @property
    def transform(self) -> ImageTransform:
        return self.clip.eval_transform

    def part(self, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image (n, d) and text (n, d) embeddings of the readable rows of a part, and the rows (n,)."""
        if self.index is None or part not in self.dataset.parts:
            raise Absent(
                f"dataset {self.dataset.name} has no part {part}: name its shards, +dataset.parts.{part}=FIRST:LAST"
            )
        rows = np.flatnonzero(usable_rows(self.index, self.dataset, part))
        encoders = Encoders("clip", self._image_encoder(), ClipTextEncoder(self.clip.model, self.clip.tokenize))
        with self._scratch(part) as folder:
            if self.rank == 0:
                EmbeddingStore.create(folder, len(rows), *embedding_dims(encoders, self._model_device()), meta={})
            barrier()
            store = EmbeddingStore(folder, "r+")
            reader = SampleReader(self.index, self.caption)
            loader = row_loader(encoders, reader, rows, self.batch_size, self.workers, "skip")
            self.drive(Embedder(encoders, store, rows), loader)
            barrier()
            good = np.asarray(store.state) == GOOD
            return np.array(store.image[good]), np.array(store.text[good]), rows[good]

    def images(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """(n, d) embeddings of a map-style set of (picture, position), and the positions (n,)."""
        count, encoder = len(dataset), self._image_encoder()  # type: ignore[arg-type]
        with self._scratch("images") as folder, torch.inference_mode(), evaluation_mode(encoder):
            file = folder / "image.npy"
            if self.rank == 0:
                folder.mkdir(parents=True, exist_ok=True)
                width = encoder(dataset[0][0].unsqueeze(0).to(self._model_device())).shape[1]
                new_array(file, np.float32, (count, width))
            barrier()
            image = open_array(file, "r+")
            loader = DataLoader(dataset, self.batch_size, num_workers=self.workers)
            self.drive(PictureEmbedder(encoder, image), loader)
            barrier()
            return np.array(image), np.arange(count)

    def classifier(self, names: Sequence[str], templates: Sequence[Template]) -> np.ndarray:
        """(d, C) class embeddings."""
        model = self.clip.model.to(self.device)
        return class_embeddings(model, self.clip.tokenize, names, templates, self.device)

    def fields(self, rows: np.ndarray, field: str) -> list[str]:
        """A field of each row's json; the empty string where it is missing."""
        assert self.index is not None
        reader = SampleReader(self.index, self.caption)

        def one(row: int) -> Any:
            try:
                return reader.metadata(row).get(field)
            except Unreadable:
                return None

        return [value if isinstance(value, str) else "" for value in map(one, rows.tolist())]

    def _image_encoder(self) -> ClipImageEncoder:
        return ClipImageEncoder(self.clip.model, self.clip.eval_transform)

    def _model_device(self) -> torch.device:
        return next(self.clip.model.parameters()).device

    @contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        folder = self.scratch / name
        if self.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        barrier()
        try:
            yield folder
        finally:
            barrier()
            if self.rank == 0:
                shutil.rmtree(folder, ignore_errors=True)
