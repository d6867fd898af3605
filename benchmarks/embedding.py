"""The embedding pass beside the bare encoder loop: images per second, interleaved.

    python -m benchmarks.embedding --rows 512 --runs 5 --encoders effnet --out experiments/bench/embedding.json

Ours: shards on disk, one loader process that reads, decodes and tokenizes, Lightning's predict loop, the store on
disk. The bare loop: the same batches, decoded beforehand and held in memory, through the same two encoders. The ratio
shows the cost of everything except the encoders.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from torch.utils.data import DataLoader

from benchmarks.rig import environment, spread, write_photos
from helip.artifacts.atomic import write_json
from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.data.byte_transforms import split_still
from helip.data.reader import SampleReader
from helip.embedding.embedder import Embedder, row_loader
from helip.embedding.encoders import ClipImageEncoder, ClipTextEncoder, Encoders, embedding_dims
from helip.embedding.packaged import EfficientNetLite0, PackagedMiniLM
from helip.models.clip import ModelSpec, create_clip
from helip.ranks import quiet_lightning

SHARDS = 8


def make_encoders(name: str) -> Encoders:
    """`effnet`: packaged EfficientNet-Lite0 at 160 px and MiniLM; else an open_clip model with random weights."""
    if name == "effnet":
        return Encoders(name, EfficientNetLite0(160), PackagedMiniLM())
    clip = create_clip(ModelSpec(name, None))
    model = clip.model.eval()
    return Encoders(name, ClipImageEncoder(model, clip.eval_transform), ClipTextEncoder(model, clip.tokenize))


def bare_rate(encoders: Encoders, batches: list[dict[str, Any]], device: torch.device) -> float:
    """Rows per second of the two encoders alone."""
    rows = 0
    with torch.inference_mode():
        began = time.perf_counter()
        for batch in batches:
            pixels = batch["image"].to(device).contiguous(memory_format=torch.channels_last)
            encoders.image(pixels).float().cpu()
            encoders.text(move_data_to_device(batch["text"], device)).float().cpu()
            rows += len(batch["row"])
        return rows / (time.perf_counter() - began)


def our_rate(encoders: Encoders, loader: DataLoader, count: int, trainer: pl.Trainer) -> float:
    """Rows per second of the predict loop from its first batch to its last, store included."""
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore.create(Path(folder) / "store", count, *embedding_dims(encoders), meta={})
        embedder = Embedder(encoders, store)
        began = time.perf_counter()
        trainer.predict(embedder, loader, return_predictions=False)
        seconds = time.perf_counter() - began
        store.finish()
        assert store.valid.all()
        return count / seconds


def measure(encoders: Encoders, rows: int, runs: int, batch_size: int, workers: int, folder: Path) -> dict[str, Any]:
    """Interleaved runs of both; rates in rows per second, ratios run by run."""
    quiet_lightning()
    index = ShardIndex.build(sorted(write_photos(folder, rows, SHARDS).glob("*.tar")))
    loader = row_loader(encoders, SampleReader(index), np.arange(len(index)), batch_size, workers, "fail")
    batches, normalize = list(loader), split_still(encoders.image.transform)[1]
    if normalize is not None:
        batches = [{**batch, "image": normalize(batch["image"])} for batch in batches]
    trainer = pl.Trainer(devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    device = trainer.strategy.root_device
    for encoder in (encoders.image, encoders.text):
        encoder.to(device)  # type: ignore[attr-defined]
    bare_rate(encoders, batches[:1], device)
    bare, ours = [], []
    for _ in range(runs):
        bare.append(bare_rate(encoders, batches, device))
        ours.append(our_rate(encoders, loader, len(index), trainer))
    ratios = [mine / alone for mine, alone in zip(ours, bare, strict=True)]
    return {"bare rows/s": spread(bare), "ours rows/s": spread(ours), "ratio": spread(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description="The embedding pass beside the bare encoder loop.")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--encoders", default="effnet", help="effnet, or an open_clip model such as ViT-B-32")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    encoders = make_encoders(arguments.encoders)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(encoders, arguments.rows, arguments.runs, arguments.batch_size, arguments.workers, Path(folder))
    settings = {name: value for name, value in vars(arguments).items() if name != "out"}
    result = {"settings": settings, "environment": environment(), "result": found}
    print(json.dumps(found, indent=2))
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
