"""A short run of mining and training, and its outcome."""

from pathlib import Path

import torch

from tests.faults.recorder import wrong_pairs
from tests.programs.conftest import World

TRAINING = [
    "train.max_steps=6", "train.checkpoint_every=2", "train.evaluate=end", "train.resume=auto", "+search.block_rows=8",
    "data.embed_batch_size=8",
]  # fmt: skip


def outcome(world: World) -> dict[str, bytes]:
    """Index and final weights."""
    (index,) = (world.folder / "artifacts/folder/hard_pairs").glob("*/meta.json")
    finals = (world.folder / "runs").glob("*/final.pt")  # two if a run died after it had written its weights
    final = max(finals, key=lambda path: path.stat().st_mtime_ns)
    weights = torch.load(final, weights_only=True)
    files = {name: (index.parent / f"{name}.npy").read_bytes() for name in ("rows", "scores")}
    return files | {name: value.numpy().tobytes() for name, value in weights.items()}


def leftovers(folder: Path) -> list[Path]:
    return [path for path in (folder / "artifacts").rglob("*") if path.name.endswith((".tmp", ".old"))]


def no_wrong_pairs(world: World, record: Path) -> None:
    """Every recorded pair of the training steps is in the index."""
    (index,) = (world.folder / "artifacts/folder/hard_pairs").glob("*/meta.json")
    pairs, wrong = wrong_pairs(record, index.parent, 5)
    assert pairs > 0 and wrong == []
    print(f"recorder: {pairs} pairs, {len(wrong)} wrong")
