"""The embedding pass: every wanted row once, on any number of ranks, written where it belongs as it is computed.

A Lightning predict loop over a map-style dataset drives it for mining and evaluation; inside a training run the
evaluation callback drives the same steps. Legend: B rows of a batch, d embedding width, n rows or pictures.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from helip.artifacts.embeddings import EmbeddingStore
from helip.data.reader import SampleReader, Unreadable
from helip.data.transforms import ImageTransform, decode_image
from helip.embedding.encoders import Encoders
from helip.errors import HelipError


class RowDataset(Dataset):
    """Decoded images and first captions of some rows.

    Args:
        rows: the rows to read, in the order of reading.
        on_error: `skip` returns the reason in place of a sample that is unreadable, `fail` raises.
    """

    def __init__(self, reader: SampleReader, rows: np.ndarray, transform: ImageTransform, on_error: str) -> None:
        self.reader, self.rows, self.transform, self.on_error = reader, rows, transform, on_error

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[int, torch.Tensor | None, str]:
        row = int(self.rows[position])
        try:
            raw = self.reader.read(row)
            return row, self.transform(decode_image(raw.image)), raw.captions[0]
        except Unreadable as error:
            reason = f"{self.reader.index.where(row)}: {error}"
            if self.on_error == "fail":
                raise HelipError(f"{reason}; repair it, or set data.on_error=skip") from error
            return row, None, reason


class RowCollate:
    """Batches readable rows and lists the unreadable ones apart; tokenizing happens here, in the worker."""

    def __init__(self, encoders: Encoders) -> None:
        self.tokenize = encoders.text.tokenize

    def __call__(self, samples: list[tuple[int, torch.Tensor | None, str]]) -> dict[str, Any]:
        good = [(row, image, caption) for row, image, caption in samples if image is not None]
        bad = [(row, reason) for row, image, reason in samples if image is None]
        return {
            "row": np.array([row for row, _, _ in good], np.int64),
            "image": torch.stack([image for _, image, _ in good]) if good else None,
            "text": self.tokenize([caption for _, _, caption in good]) if good else None,
            "unreadable": np.array([row for row, _ in bad], np.int64),
            "reasons": [reason for _, reason in bad],
        }


class Embedder(pl.LightningModule):
    """Encodes batches and writes each into the store at once; nothing is kept in memory.

    Args:
        rows: sorted rows that the store holds, where it holds only those; None: the store has every row.

    Attributes:
        reasons: why the first few unreadable rows of this rank were left out.
    """

    def __init__(self, encoders: Encoders, store: EmbeddingStore, rows: np.ndarray | None = None) -> None:
        super().__init__()
        self.encoders, self.store, self.rows = encoders, store, rows
        self.reasons: list[str] = []
        for name, encoder in (("image", encoders.image), ("text", encoders.text)):
            if isinstance(encoder, torch.nn.Module):
                self.add_module(f"{name}_encoder", encoder)

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> None:
        if len(batch["row"]):
            image = self.encoders.image(batch["image"])  # (B, d_I)
            text = self.encoders.text(batch["text"])  # (B, d_T)
            self.store.write(self._places(batch["row"]), image.float().cpu().numpy(), text.float().cpu().numpy())
        self.store.mark_unreadable(self._places(batch["unreadable"]))
        self.reasons += batch["reasons"][: max(0, 5 - len(self.reasons))]

    def _places(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.rows is None else np.searchsorted(self.rows, rows)


class PictureEmbedder(pl.LightningModule):
    """Writes the image embeddings of a set of (picture, position) into a memory map (n, d)."""

    def __init__(self, encoder: Callable[[torch.Tensor], torch.Tensor], into: np.ndarray) -> None:
        super().__init__()
        self.encoder, self.into = encoder, into

    def predict_step(self, batch: list[torch.Tensor], batch_idx: int = 0) -> None:
        pictures, positions = batch
        self.into[positions.cpu().numpy()] = self.encoder(pictures).float().cpu().numpy()


def row_loader(
    encoders: Encoders, reader: SampleReader, rows: np.ndarray, batch_size: int, workers: int, on_error: str
) -> DataLoader:
    """A loader of decoded rows for the predict loop, which splits it over ranks."""
    return DataLoader(
        RowDataset(reader, rows, encoders.image.transform, on_error),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=RowCollate(encoders),
        pin_memory=torch.cuda.is_available(),
    )
