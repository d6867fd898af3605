"""A checkpoint of the icons on one held-out part: answered queries, galleries of neighbours, and drift.

Legend: n icons of a part, d embedding width.
"""

import base64
import json
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from helip.data.transforms import decode_image
from helip.evaluation.metrics import positive_ranks
from helip.evaluation.neighbours import gallery_ranks, neighbour_positions
from helip.models.clip import Clip, ModelSpec, create_clip

SHARDS = {"val": "00048.tar", "test": "00049.tar", "unseen": "00050.tar"}
BATCH = 256


@dataclass(frozen=True)
class Part:
    """The icons of a held-out part, in the order of its shard."""

    images: list[bytes]
    captions: list[str]
    keys: list[str]
    neighbours: list[str]  # keys, separated by spaces

    @property
    def group(self) -> NDArray[np.int64]:
        """(n,): icons of one caption are right answers to each other."""
        return np.unique(np.asarray(self.captions), return_inverse=True)[1]


@cache
def read_part(path: Path) -> Part:
    """Every sample of the shard, in order."""
    part = Part([], [], [], [])
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            if member.name.endswith(".png"):
                part.images.append(content.read())
            elif member.name.endswith(".json"):
                about = json.load(content)
                part.captions.append(about["caption"])
                part.keys.append(about["key"])
                part.neighbours.append(about["neighbours"])
    return part


@torch.inference_mode()
def features(clip: Clip, part: Part) -> tuple[NDArray, NDArray]:
    """(n, d) float32 image and text embeddings of length 1."""
    model: Any = clip.model.eval()
    found: tuple[list[NDArray], list[NDArray]] = ([], [])
    for start in range(0, len(part.images), BATCH):
        span = slice(start, start + BATCH)
        pixels = torch.stack([clip.eval_transform(decode_image(i)) for i in part.images[span]])
        found[0].append(model.encode_image(pixels, normalize=True).float().numpy())
        found[1].append(model.encode_text(clip.tokenize(part.captions[span]), normalize=True).float().numpy())
    return np.concatenate(found[0]), np.concatenate(found[1])


def measure(
    model: str, weights: str, data: Path, part: str, start: tuple[NDArray, NDArray] | None = None
) -> dict[str, Any]:
    """Recalls in percent, the answered queries, and how far the features moved.

    Args:
        model: its name.
        weights: a file.
        data: the folder of the icons.
        part: val, test or unseen.
        start: image and text embeddings of the same icons by the checkpoint that the run began with.

    Returns:
        `recall@1`, `recall@10` (means of both directions) and `neighbours@1`; `hits`: the n image queries and the n
        text queries that find their icon first, as bits; `drift`: mean squared distance of the features from `start`.
    """
    icons = read_part(data / SHARDS[part])
    image, text = features(create_clip(ModelSpec(model, weights)), icons)
    group = icons.group
    ranks = np.concatenate([positive_ranks(image, text, group, group), positive_ranks(text, image, group, group)])
    near = neighbour_positions(icons.keys, icons.neighbours)
    nearby = np.concatenate([gallery_ranks(image, text, near), gallery_ranks(text, image, near)])
    found = {
        "recall@1": 100 * float((ranks == 1).mean()),
        "recall@10": 100 * float((ranks <= 10).mean()),
        "neighbours@1": 100 * float((nearby == 1).mean()),
        "hits": base64.b64encode(np.packbits(ranks == 1).tobytes()).decode(),
    }
    if start is not None:
        moved = [float(((now - then) ** 2).sum(1).mean()) for now, then in zip((image, text), start, strict=True)]
        found["drift"] = sum(moved) / 2
    return found


def answered(found: dict[str, Any], count: int) -> NDArray[np.float64]:
    """(n,) share of an icon's two queries that find it first: 0, 0.5 or 1."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(found["hits"]), np.uint8), count=2 * count)
    return bits.reshape(2, count).mean(0)
