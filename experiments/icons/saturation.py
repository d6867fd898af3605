"""Saturation of a checkpoint: its mean loss on random batches over ln B, on training and held-out rows.

    python -m experiments.icons.saturation CHECKPOINT... --data data/icons > saturation.json

Writes a JSON list with an object for each checkpoint and batch size B. The rows of a batch are drawn without
replacement; equal captions and images are no negatives of each other, as in training; images are not cropped.

Legend: n rows, d embedding width, B rows of a batch.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, content_digest
from helip.embedding.embedder import read_row
from helip.models.clip import Clip, ModelSpec, create_clip
from helip.training.losses import HelipLoss
from helip.training.saturation import kind_of

CHUNK = 500


@torch.inference_mode()
def features(clip: Clip, shards: list[Path]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image and text features (n, d) of length 1, and identities (n, 3) as a batch of training has them."""
    reader = SampleReader(ShardIndex.build(shards))
    images, texts, identities = [], [], []
    clip.model.eval()
    for start in range(0, len(reader.index), CHUNK):
        rows = range(start, min(start + CHUNK, len(reader.index)))
        read = [read_row(reader, row) for row in rows]
        pixels = torch.stack([clip.eval_transform(image) for _, image in read])  # (b, 3, H, W)
        out: dict[str, Any] = clip.model(pixels, clip.tokenize([raw.captions[0] for raw, _ in read]))
        images.append(out["image_features"])
        texts.append(out["text_features"])
        identities += [(raw.row, content_digest(raw.image), content_digest(raw.captions[0])) for raw, _ in read]
    return torch.cat(images), torch.cat(texts), torch.tensor(np.array(identities, np.int64))


def losses(
    image: torch.Tensor,
    text: torch.Tensor,
    identity: torch.Tensor,
    scale: torch.Tensor,
    batch: int,
    batches: int,
    seed: int = 0,
) -> list[float]:
    """CLIP's loss on random batches of these features; arguments as `features` returns them."""
    loss, generator = HelipLoss(margin_weight=0.0), torch.Generator().manual_seed(seed)
    found = []
    for _ in range(batches):
        rows = torch.randperm(len(image), generator=generator)[:batch]
        parts = loss(image[rows], text[rows], scale, torch.arange(batch), identity=identity[rows])
        found.append(parts["clip_loss"].item())
    return found


def measure(
    checkpoint: Path, model: str, data: dict[str, list[Path]], sizes: list[int], batches: int
) -> list[dict[str, Any]]:
    """For each B of `sizes`: mean loss, its standard error and its share of ln B on `train` and `val`; the kind."""
    clip = create_clip(ModelSpec(model, str(checkpoint)))
    scale = clip.model.logit_scale.exp().detach()  # type: ignore[operator,union-attr]
    embedded = {part: features(clip, shards) for part, shards in data.items()}
    rows = []
    for size in sizes:
        found: dict[str, Any] = {"checkpoint": checkpoint.name, "batch": size, "scale": round(scale.item(), 3)}
        for part in data:
            values = losses(*embedded[part], scale, size, batches)
            mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(batches))
            found[part] = {"loss": round(mean, 4), "error": round(error, 4), "share": round(mean / math.log(size), 4)}
        rows.append(found | {"kind": kind_of(found["train"]["share"], found["val"]["share"])})
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Saturation of checkpoints on the icons.")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="folder that experiments.icons.build wrote")
    parser.add_argument("--shards", type=int, default=8, help="training shards of 2,500: 8 for dataset=icons")
    parser.add_argument("--model", default="icons_small")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 32])
    parser.add_argument("--batches", type=int, default=50)
    given = parser.parse_args()
    parts = json.loads((given.data / "parts.json").read_text(encoding="utf-8"))
    data = {part: [given.data / name for name in parts[part]["shards"]] for part in ("train", "val")}
    data["train"] = data["train"][: given.shards]
    found = [measure(checkpoint, given.model, data, given.batch, given.batches) for checkpoint in given.checkpoints]
    print(json.dumps([row for rows in found for row in rows], indent=1))


if __name__ == "__main__":
    main()
