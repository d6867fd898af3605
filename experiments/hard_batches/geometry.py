"""How training changed the features of held-out icons -> results/geometry.json.

    python -m experiments.hard_batches.geometry --data data/icons --runs runs/hard_batches

Legend: n icons of `test`, d embedding width.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.hard_batches import measure
from experiments.hard_batches.arms import BASES, MODEL, SEEDS
from experiments.hard_batches.run import RESULTS
from helip.artifacts.atomic import write_json

ARMS = ("off", "L", "M", "random", "placebo")
BASE = "spent-1"
OTHERS = 1000  # the negative of an icon is the caption this many places after it


def geometry(weights: Path, data: Path, start: tuple[NDArray, NDArray] | None = None) -> dict[str, float]:
    """Cosines, centroids and scale of one model; with the features of `start` also how far they moved."""
    clip = measure.create_clip(measure.ModelSpec(MODEL, str(weights)))
    image, text = measure.features(clip, measure.read_part(data / measure.SHARDS["test"]))  # (n, d) each
    scale: Any = clip.model.logit_scale
    found = {
        "positive": float((image * text).sum(1).mean()),
        "negative": float((image * np.roll(text, -OTHERS, 0)).sum(1).mean()),
        "centroid": float(np.mean([np.linalg.norm(side.mean(0)) for side in (image, text)])),
        "scale": float(scale.detach().exp()),
    }
    if start is None:
        return found
    sides = list(zip((image, text), start, strict=True))
    return found | {
        "drift": float(np.mean([((now - then) ** 2).sum(1).mean() for now, then in sides])),
        "drift_of_centroids": float(np.mean([((now.mean(0) - then.mean(0)) ** 2).sum() for now, then in sides])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the features of the study's final models.")
    parser.add_argument("--data", type=Path, default=Path("data/icons"))
    parser.add_argument("--runs", type=Path, default=Path("runs/hard_batches"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    clip = measure.create_clip(measure.ModelSpec(MODEL, str(BASES[BASE])))
    start = measure.features(clip, measure.read_part(asked.data / measure.SHARDS["test"]))
    found: dict[str, list[dict[str, float]]] = {"checkpoint": [geometry(BASES[BASE], asked.data)]}
    for arm in ARMS:
        files = [asked.runs / "final" / f"{arm}-{BASE}-b32-n20000-s{seed}" / "final.pt" for seed in SEEDS]
        found[arm] = [geometry(file, asked.data, start) for file in files]
    write_json(RESULTS / "geometry.json", found)


if __name__ == "__main__":
    main()
