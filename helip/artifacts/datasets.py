"""The specification of a dataset, and its shard index, which is built once and reused."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import track

from helip.artifacts.atomic import clear_stale, digest
from helip.artifacts.members import Members
from helip.artifacts.places import resolve_shards
from helip.artifacts.shards import OlderRows, ShardIndex
from helip.errors import HelipError
from helip.secrets import without_credentials
from helip.storage.base import Shard
from helip.storage.schemes import Storages
from helip.typed import operation, result


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset as the configuration names it.

    Attributes:
        path: a folder of .tar files, one .tar, or a pattern such as DIR/{00000..00331}.tar or DIR/*.tar; a list or
            `::` joins several; None for bare arrays.
        parts: name -> slice of shards in Python's notation; `train` is required.
        weights: {shards: SLICE, weight: VISITS} for rows that are visited more or less than once per epoch.
        label: json field by which hard pairs are compared with random ones after mining.
        members: {image: [SUFFIX, ...], caption: [SUFFIX, ...]}; the first suffix that a sample has is taken; null
            keeps the default.
    """

    name: str = result()
    path: str | list[str] | None = operation()  # identified by the fingerprint of its content
    parts: dict[str, str] = result(default_factory=lambda: {"train": ":"})
    evaluators: list[dict[str, Any]] = operation(default_factory=list)  # they count as evaluation.evaluators
    label: str | None = operation(default=None)
    weights: list[dict[str, Any]] = result(default_factory=list)
    members: dict[str, list[str] | None] = result(default_factory=dict)


def open_index(dataset: DatasetSpec, artifacts: Path, on_error: str, console: Console) -> ShardIndex:
    """The shard index of a dataset: from disk if sizes and times of the shards are unchanged, otherwise a new scan.

    Raises:
        HelipError: no shards, a damaged one with on_error="fail", or nothing usable.
    """
    assert dataset.path is not None
    shards, members = resolve_shards(dataset.path), Members.of(dataset.members)
    folder = index_folder(dataset.name, shards, artifacts, members)
    index = _loaded(folder)
    if index is None:  # no lock for reading: artefacts may lie on a read-only disk
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if (index := _loaded(folder)) is None:
                index = _built(shards, members, folder, console)
    index.shards = [shard.absolute() if isinstance(shard, Path) else shard for shard in shards]
    if index.problems and on_error == "fail":
        raise HelipError(f"{index.problems[0]}; download it again, or set data.on_error=skip to use what is good")
    for problem in index.problems[:5]:
        console.print(f"warning: {problem}; the samples before the damage are used")
    if len(index.problems) > 5:
        console.print(f"warning: {len(index.problems) - 5} more shards are damaged")
    for sentence in incomplete(index):
        console.print(f"warning: {sentence}")
    return index


def _loaded(folder: Path) -> ShardIndex | None:
    """The index in `folder`; None if there is none, or if a new scan may have other rows."""
    with suppress(OlderRows):
        return ShardIndex.load(folder) if (folder / "shards.json").exists() else None
    return None


def _built(shards: list[Shard], members: Members, folder: Path, console: Console) -> ShardIndex:
    clear_stale(folder)
    bar = iter(track(range(len(shards)), "indexing shards", console=console, disable=len(shards) < 20))
    ShardIndex.build(shards, on_shard=lambda done: next(bar, None), members=members).save(folder)  # type: ignore[arg-type,return-value]
    return ShardIndex.load(folder)  # as memory maps


def incomplete(index: ShardIndex) -> list[str]:
    """Warnings about samples without image or caption, empty captions, and members that were not chosen."""
    said: list[str] = []
    rows = np.flatnonzero(~index.valid)
    if len(rows):
        first = index.where(int(rows[0]))
        said.append(f"{len(rows):,} of {len(index):,} samples have no image or no caption, the first is {first}")
    if index.leftovers:
        counts = ", ".join(f"{count:,} {text}" for text, count in index.leftovers.items())
        said.append(f"caption files that hold no caption: {counts}; data.drop_captions says which words are left out")
    if index.passed_over:
        counts = ", ".join(f"{count:,} .{suffix}" for suffix, count in sorted(index.passed_over.items()))
        said.append(
            f"samples hold several images or captions: {counts} skipped, because dataset.members prefers others"
        )
    return said


def index_folder(name: str, shards: list[Shard], artifacts: Path, members: Members | None = None) -> Path:
    """Folder of the shard index, named by paths, sizes and times of the shards, and by members if not the default."""
    storages, described = Storages(), (members or Members()).described()
    places = [str(shard.absolute()) if isinstance(shard, Path) else without_credentials(shard) for shard in shards]
    facts = [(storages.size(shard), storages.stamp(shard)) for shard in shards]
    listing: Any = [(place, *fact) for place, fact in zip(places, facts, strict=True)]
    return artifacts / name / f"shards-{digest([listing, described] if described else listing)}"


def usable_rows(index: ShardIndex, dataset: DatasetSpec, part: str) -> np.ndarray:
    """(N,) bool, the valid rows of a named part. Raises HelipError if the dataset has no such part."""
    if part not in dataset.parts:
        raise HelipError(f"dataset {dataset.name} has no part {part!r}, only {', '.join(dataset.parts)}")
    rows = index.rows_of(dataset.parts[part])
    mask = np.zeros(len(index), bool)
    mask[rows.start : rows.stop] = index.valid[rows.start : rows.stop]
    return mask


def shard_weights(index: ShardIndex, dataset: DatasetSpec) -> np.ndarray | None:
    """(S,) visits per epoch of the rows of each shard, None if all are 1. Raises HelipError for a wrong entry."""
    if not dataset.weights:
        return None
    weights = np.ones(len(index.shards))
    for entry in dataset.weights:
        weight = entry.get("weight")
        if set(entry) != {"shards", "weight"} or not isinstance(weight, int | float) or not weight > 0:
            raise HelipError(
                f"dataset.weights has {entry}: give {{shards: '0:100', weight: 2.0}} with a weight above 0"
            )
        rows = index.rows_of(entry["shards"])
        weights[int(index.shard_of(rows.start)) : int(index.shard_of(rows.stop - 1)) + 1] = weight
    return weights
