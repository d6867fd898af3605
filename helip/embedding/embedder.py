"""The embedding pass: embeds every wanted row once, on any number of ranks, and writes each batch at once.

Mining and evaluation run it in a Lightning predict loop over a map-style dataset; during training the evaluation
callback runs the same steps. Legend: B rows of a batch, d embedding width, n rows or pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from helip.artifacts.embeddings import EmbeddingStore
from helip.data.byte_transforms import split_still
from helip.data.reader import RawSample, SampleReader, Unreadable, content_digests
from helip.data.transforms import ImageTransform, decode_image, still_draft_size
from helip.embedding.encoders import Encoders
from helip.errors import HelipError


@dataclass(frozen=True)
class DecodedRow:
    """One row from the loader; for an unreadable row `image` is None and `caption` is the reason."""

    row: int
    image: torch.Tensor | None
    caption: str
    content: tuple[np.int64, np.int64] = (np.int64(0), np.int64(0))  # digests of image and caption


def read_row(reader: SampleReader, row: int, on_error: str = "skip", draft: int = 0) -> tuple[RawSample, Image.Image]:
    """A sample and its decoded image, see `decode_image`. Raises Unreadable, or HelipError with on_error=`fail`."""
    try:
        raw = reader.read(row)
        return raw, decode_image(raw.image, draft)
    except Unreadable as error:
        reason = f"{reader.index.where(row)}: {error}"
        if on_error == "fail":
            raise HelipError(f"{reason}; repair it, or set data.on_error=skip") from error
        raise Unreadable(reason) from error


class RowDataset(Dataset):
    """Decoded images and first captions of some rows.

    Args:
        rows: the rows to read, in the order of reading.
        on_error: `skip` returns the reason in place of a sample that is unreadable, `fail` raises.
        draft: sides that are enough for a JPEG, see `decode_image`.
    """

    def __init__(
        self, reader: SampleReader, rows: np.ndarray, transform: ImageTransform, on_error: str, draft: int = 0
    ) -> None:
        self.reader, self.rows, self.transform, self.on_error, self.draft = reader, rows, transform, on_error, draft

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> DecodedRow:
        row = int(self.rows[position])
        try:
            raw, image = read_row(self.reader, row, self.on_error, self.draft)
        except Unreadable as error:
            return DecodedRow(row, None, str(error))
        return DecodedRow(row, self.transform(image), raw.captions[0], content_digests(raw))


def collate_rows(tokenize: Callable[[list[str]], Any], samples: list[DecodedRow]) -> dict[str, Any]:
    """Batch readable rows, tokenize their captions in the worker, and list unreadable rows separately."""
    good = [sample for sample in samples if sample.image is not None]
    bad = [sample for sample in samples if sample.image is None]
    return {
        "row": np.array([sample.row for sample in good], np.int64),
        "image": torch.stack([sample.image for sample in good if sample.image is not None]) if good else None,
        "text": tokenize([sample.caption for sample in good]) if good else None,
        "content": np.array([sample.content for sample in good], np.int64).reshape(-1, 2),
        "unreadable": np.array([sample.row for sample in bad], np.int64),
        "reasons": [sample.caption for sample in bad],
    }


class Embedder(pl.LightningModule):
    """Encodes batches and writes each into the store.

    Args:
        rows: sorted rows of a store that holds only those; None: the store has every row.

    Attributes:
        reasons: reasons of the first few unreadable rows of this rank.
        seconds: time of this rank for reading (waiting for the loader), computing and writing.
    """

    def __init__(self, encoders: Encoders, store: EmbeddingStore, rows: np.ndarray | None = None) -> None:
        super().__init__()
        self.encoders, self.store, self.rows = encoders, store, rows
        self.normalize = split_still(encoders.image.transform)[1]
        self.reasons: list[str] = []
        self.seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self._ended: float | None = None
        for name, encoder in (("image", encoders.image), ("text", encoders.text)):
            if isinstance(encoder, torch.nn.Module):
                self.add_module(f"{name}_encoder", encoder)

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> None:
        began = perf_counter()
        if self._ended is not None:
            self.seconds["read"] += began - self._ended
        if len(batch["row"]):
            pixels = batch["image"]  # (B, 3, H, W), uint8 if the device normalises
            if self.normalize is not None:
                pixels = self.normalize(pixels)
                if self._trainer is not None:  # during a fit it is called directly
                    pixels = self._trainer.precision_plugin.convert_input(pixels)
            pixels = pixels.contiguous(memory_format=torch.channels_last)  # fastest for convolutions
            image = self.encoders.image(pixels).float().cpu().numpy()  # (B, d_I)
            text = self.encoders.text(batch["text"]).float().cpu().numpy()  # (B, d_T)
            computed = perf_counter()
            self.store.write(self._places(batch["row"]), image, text, batch["content"])
            self.seconds["compute"] += computed - began
            self.seconds["write"] += perf_counter() - computed
        self.store.mark_unreadable(self._places(batch["unreadable"]))
        self.reasons += batch["reasons"][: max(0, 5 - len(self.reasons))]
        self._ended = perf_counter()

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
    encoders: Encoders,
    reader: SampleReader,
    rows: np.ndarray,
    batch_size: int,
    workers: int,
    on_error: str,
    draft: bool = False,
) -> DataLoader:
    """A loader of decoded rows for the predict loop, which splits it over ranks.

    If the transform ends in ToTensor and Normalize, images are bytes, and `Embedder` does these steps bit for bit.
    `draft` decodes a large JPEG at a fraction of its size if the transform shrinks it anyway.
    """
    transform = encoders.image.transform
    sides = still_draft_size(transform) if draft else 0
    return DataLoader(
        RowDataset(reader, rows, split_still(transform)[0], on_error, sides),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=partial(collate_rows, encoders.text.tokenize),
        pin_memory=torch.cuda.is_available(),
    )
