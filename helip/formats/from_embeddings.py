"""Mines hard pairs from your own embeddings, without a configuration: helip train paths.index=OUT trains on them."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from helip.artifacts.shards import ShardIndex
from helip.embedding.arrays import holds_both
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.formats.options import add_shards, new_folder, open_shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help=".npy or .npz (N, d) in the order of rows, or clip-retrieval's folder")
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", type=Path, help="likewise; not needed if the folder or .npz file holds both")
    add_shards(parser)
    parser.add_argument("--k", type=int, default=50, help="hard pairs of each row (default: 50)")
    parser.add_argument("--score", choices=("joint", "image", "text"), default="joint")
    parser.add_argument("--near-duplicate", type=float, default=0.98, help="highest cosine (default: 0.98)")
    parser.add_argument("--min-similarity", type=float, default=0.0, help="lowest cosine (default: 0)")


def run(arguments: argparse.Namespace) -> list[str]:
    parent = new_folder(arguments.out).parent
    parent.mkdir(parents=True, exist_ok=True)
    text = arguments.text or (arguments.image if holds_both(arguments.image) else None)
    if text is None:
        raise HelipError(f"--text is missing: {arguments.image} holds only one side")
    shards = open_shards(arguments.shards)
    with TemporaryDirectory(dir=parent) as scratch:  # folders are sorted into row order here
        return _mine(arguments, Precomputed(arguments.image, text, Path(scratch)), shards)


def _mine(arguments: argparse.Namespace, given: Precomputed, shards: ShardIndex) -> list[str]:
    from helip.mining.miner import mine_hard_pairs

    image, words = given.load(shards)
    if len(image) != len(shards):
        raise HelipError(
            f"{arguments.image} has {len(image):,} rows, the shards have {len(shards):,}: give one embedding per row"
        )
    usable = np.asarray(shards.valid & given.present(shards))
    limits = {"near_duplicate": arguments.near_duplicate, "min_similarity": arguments.min_similarity}
    index = mine_hard_pairs(image, words, arguments.k, arguments.score, valid=usable, progress=True, **limits)
    sides = [path.name for path in (arguments.image, arguments.text) if path]
    # `imported`: training accepts the index without comparing the settings of mining.
    index.meta.update(fingerprint=shards.fingerprint, imported={"from": sides, "scores": True})
    index.save(arguments.out)
    have = int((np.asarray(index.rows)[:, 0] >= 0).sum())
    return [f"{have:,} of {len(shards):,} rows have hard pairs in {arguments.out}"]
