"""Embeds parts, pictures and captions with a CLIP model for evaluators: each sample once, on any number of ranks."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from helip.artifacts.arrays import new_array, open_array
from helip.artifacts.datasets import DatasetSpec, usable_rows
from helip.artifacts.embeddings import GOOD, EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.data.reader import Caption, CaptionRule, SampleReader, Unreadable
from helip.data.transforms import ImageTransform
from helip.data.workers import PatientLoader
from helip.embedding.embedder import Embedder, PictureEmbedder, row_loader
from helip.embedding.encoders import (
    ClipImageEncoder,
    ClipTextEncoder,
    Encoders,
    embedding_dims,
    evaluation_mode,
)
from helip.evaluation.embed import Absent, check_part
from helip.evaluation.prompts import Template, class_embeddings
from helip.models.clip import Clip
from helip.ranks import barrier

# Runs the predict steps of a module over a loader on all ranks, every sample once.
Drive = Callable[[pl.LightningModule, DataLoader], None]
Value = TypeVar("Value")


def as_text(value: Any) -> str:
    """A json value that can name a group or class, such as `3` or `animal`, as text; "" for others and for NaN."""
    named = isinstance(value, str | int | float) and not isinstance(value, bool) and value == value
    return str(value) if named else ""


class WholeBatches(DistributedSampler):
    """Gives the ranks whole batches, the same batches that one rank alone would form.

    The last bits of an embedding depend on the shape of its batch, so other batches would give other numbers. A rank
    without a batch repeats the last one, because Lightning refuses an empty loader.
    """

    def __init__(self, count: int, batch_size: int, rank: int, world_size: int) -> None:
        first = min(rank * batch_size, (count - 1) // batch_size * batch_size)
        begins = range(first, count, world_size * batch_size)
        self.positions = [place for begin in begins for place in range(begin, min(begin + batch_size, count))]

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


def own_share(loader: DataLoader, trainer: pl.Trainer, kind: type[DataLoader] = DataLoader) -> DataLoader:
    """A loader of this rank's batches, of the given kind."""
    size = loader.batch_size or 1
    sampler = WholeBatches(len(loader.dataset), size, trainer.global_rank, trainer.world_size)  # type: ignore[arg-type]
    return kind(
        loader.dataset,
        size,
        sampler=sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
    )


def predict_drive(trainer: pl.Trainer) -> Drive:
    """A drive by Lightning's predict loop."""

    def drive(module: pl.LightningModule, loader: DataLoader) -> None:
        trainer.predict(module, own_share(loader, trainer), return_predictions=False)

    return drive


def inside_fit_drive(trainer: pl.Trainer) -> Drive:
    """A drive by a plain loop, for inside a fit, where Lightning cannot start another loop.

    SIGTERM takes effect later, at the checkpoint of the fit.
    """

    def drive(module: pl.LightningModule, loader: DataLoader) -> None:
        with torch.inference_mode(), trainer.precision_plugin.predict_step_context():
            for number, batch in enumerate(own_share(loader, trainer, PatientLoader)):
                module.predict_step(move_data_to_device(batch, trainer.strategy.root_device), number)

    return drive


def read(function: Callable[[int], Value], row: int, missing: Value) -> Value:
    """function(row), or `missing` for a row that cannot be read."""
    try:
        return function(row)
    except Unreadable:
        return missing


def tokenized(tokenize: Callable[[list[str]], torch.Tensor], pairs: list[tuple[str, int]]) -> list[torch.Tensor]:
    """Tokens and positions of a batch of (caption, position), in the worker."""
    return [tokenize([caption for caption, _ in pairs]), torch.tensor([position for _, position in pairs])]


@dataclass(frozen=True)
class ClipEmbed:
    """The embeddings of a CLIP model; implements helip.evaluation.embed.Embed.

    Attributes:
        scratch: a folder that all ranks see; emptied after use.
        device: where the class names are embedded.
        precision: context in which the class names are embedded; everything else is embedded by the drive.
    """

    clip: Clip
    dataset: DatasetSpec
    index: ShardIndex | None
    drive: Drive
    scratch: Path
    device: torch.device
    rank: int
    caption: Caption | CaptionRule = "txt"
    batch_size: int = 256
    workers: int = 1
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def transform(self) -> ImageTransform:
        return self.clip.eval_transform

    def part(self, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `Embed.part`."""
        if self.index is None:
            raise Absent(f"dataset {self.dataset.name} has no shards, so no part {part}")
        check_part(part, self.dataset.parts)
        return self.rows(np.flatnonzero(self.usable(part)), part)[:3]

    def usable(self, part: str) -> np.ndarray:
        """(N,) bool, the valid rows of a part."""
        assert self.index is not None
        return usable_rows(self.index, self.dataset, part)

    def rows(self, rows: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """As `part` for any rows (n,), in their order; also the digests (n, 2) of their images and captions."""
        assert self.index is not None
        encoders = Encoders("clip", self._image_encoder(), ClipTextEncoder(self.clip.model, self.clip.tokenize))
        with self._scratch(name) as folder:
            if self.rank == 0:
                EmbeddingStore.create(folder, len(rows), *embedding_dims(encoders, self._model_device()), meta={})
            barrier()
            store = EmbeddingStore(folder, "r+")
            loader = row_loader(encoders, self._reader(), rows, self.batch_size, self.workers, "skip")
            self.drive(Embedder(encoders, store, rows), loader)
            barrier()
            good = np.asarray(store.state) == GOOD
            image, text, content = (np.array(array[good]) for array in (store.image, store.text, store.content))
            return image, text, rows[good], content

    def images(self, dataset: Dataset) -> np.ndarray:
        """As `Embed.images`."""
        loader = DataLoader(dataset, self.batch_size, num_workers=self.workers)
        return self._embedded("images", self._image_encoder(), loader, lambda: dataset[0][0].unsqueeze(0))

    def texts(self, captions: Sequence[str]) -> np.ndarray:
        """As `Embed.texts`."""
        encoder, collate = ClipTextEncoder(self.clip.model, self.clip.tokenize), partial(tokenized, self.clip.tokenize)
        pairs: Any = [(caption, position) for position, caption in enumerate(captions)]
        loader = DataLoader(pairs, self.batch_size, num_workers=self.workers, collate_fn=collate)
        return self._embedded("texts", encoder, loader, lambda: self.clip.tokenize(["a photo"]))

    def _embedded(
        self, name: str, encoder: nn.Module, loader: DataLoader, example: Callable[[], torch.Tensor]
    ) -> np.ndarray:
        """(n, d) embeddings of a loader of (input, position): all ranks write them into one file, each sample once."""
        with self._scratch(name) as folder, torch.inference_mode(), evaluation_mode(encoder):
            file, count = folder / "embeddings.npy", len(loader.dataset)  # type: ignore[arg-type]
            if self.rank == 0:
                folder.mkdir(parents=True, exist_ok=True)
                width = encoder(example().to(self._model_device())).shape[1]
                new_array(file, np.float32, (count, width))
            barrier()
            into = open_array(file, "r+")
            self.drive(PictureEmbedder(encoder, into), loader)
            barrier()
            return np.array(into)

    def classifier(self, names: Sequence[str], templates: Sequence[Template]) -> np.ndarray:
        """As `Embed.classifier`."""
        model = self.clip.model.to(self.device)
        with self.precision():
            return class_embeddings(model, self.clip.tokenize, names, templates, self.device)

    def fields(self, rows: np.ndarray, field: str) -> list[str]:
        """As `Embed.fields`."""
        reader = self._reader()
        return [as_text(read(reader.metadata, row, {}).get(field)) for row in rows.tolist()]

    def captions(self, rows: np.ndarray, field: str | None) -> list[tuple[str, ...]]:
        """As `Embed.captions`."""
        rule = CaptionRule.of(self.caption)
        reader = self._reader(rule if field is None else replace(rule, sources=field))
        return [read(reader.captions, row, ()) for row in rows.tolist()]

    def names(self, rows: np.ndarray) -> list[str]:
        """As `Embed.names`."""
        reader = self._reader()
        return list(dict.fromkeys(name for row in rows.tolist() for name in read(reader.metadata, row, {})))

    def _reader(self, caption: Caption | CaptionRule | None = None) -> SampleReader:
        assert self.index is not None
        return SampleReader(self.index, caption or self.caption)

    def _image_encoder(self) -> ClipImageEncoder:
        return ClipImageEncoder(self.clip.model, self.clip.eval_transform)

    def _model_device(self) -> torch.device:
        return next(self.clip.model.parameters()).device

    @contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        """A folder that rank 0 empties before and after."""
        folder = self.scratch / name
        if self.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        barrier()
        yield folder
        barrier()  # not after an error, which other ranks may not have
        if self.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
