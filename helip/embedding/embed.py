"""Embeddings of shards for other programs, without Hydra and configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.embedding.encoders import Encoders, ImageEncoder, TextEncoder
from helip.embedding.ensure import EmbeddingRequest, ensure_embeddings
from helip.ranks import TrainerSpec, predict_trainer


def embed(
    shards: ShardIndex | str | Sequence[str],
    image_encoder: ImageEncoder,
    text_encoder: TextEncoder,
    folder: Path | str,
    caption: str | Mapping[str, float] = "txt",
    batch_size: int = 256,
    workers: int = 1,
    on_error: str = "skip",
    identity: str = "",
) -> EmbeddingStore:
    """The embeddings of all valid rows; finished rows are reused, and an interrupted pass is resumed.

    Args:
        shards: an index, or a folder, file or pattern of tars.
        image_encoder: has `transform` (picture -> (3, H, W)); maps (B, 3, H, W) to (B, d_I).
        text_encoder: has `tokenize` (captions -> tokens); maps tokens to (B, d_T).
        folder: of the store.
        caption: `txt`, or a field of the .json member; only the first caption of a row is embedded.
        batch_size: rows per batch.
        workers: processes that read and decode.
        on_error: `skip` leaves out a row without a readable image or caption, `fail` raises.
        identity: name of the weights; embeddings under another name are not reused.

    Returns:
        `image` (N, d_I) and `text` (N, d_T) float32 memory maps in the order of rows, and `valid` (N,).

    Raises:
        HelipError: nothing can be embedded, or the folder holds embeddings of other shards or another identity.
    """
    index = shards if isinstance(shards, ShardIndex) else ShardIndex.build(shards)
    encoders = Encoders("own", image_encoder, text_encoder)
    made_of = {"encoders": identity, "caption": caption if isinstance(caption, str) else list(caption)}
    request = EmbeddingRequest("own", made_of, lambda: encoders, caption, on_error, batch_size, workers)
    place = Path(folder) / f"own-{request.hash(index)}"
    trainer = predict_trainer(TrainerSpec())
    return ensure_embeddings(request, index, np.asarray(index.valid), place, trainer, Console(stderr=True))
