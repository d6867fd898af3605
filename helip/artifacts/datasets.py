"""Where a dataset lies, and its shard index, built once and found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import braceexpand
import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import track

from helip.artifacts.atomic import clear_stale, digest
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError

HOW_TO_GET = "docs/datasets.md says how to get the shards; HELIP_DATA or paths.data says where they are"


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset as the configuration names it.

    Attributes:
        path: a folder of .tar files, one .tar, or a brace pattern such as DIR/{00000..00331}.tar; a list joins
            several; None for bare arrays.
        parts: name -> slice of shards in Python's notation; `train` is required.
        weights: {shards: SLICE, weight: VISITS} of sources whose rows are visited more or less than once per epoch.
        label: json field by which hard pairs are compared with random ones after mining.
    """

    name: str
    path: str | list[str] | None
    parts: dict[str, str] = field(default_factory=lambda: {"train": ":"})
    evaluators: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    label: str | None = None
    weights: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def resolve_shards(path: str | list[str]) -> list[Path]:
    """The tar files of a folder, a file or a brace pattern, or of a list of these, in order.

    Raises:
        HelipError: an address instead of a path, braces that do not match, something that is no file, or nothing.
    """
    if isinstance(path, list):
        return [shard for one in path for shard in resolve_shards(one)]
    if "://" in path or path.startswith("pipe:"):
        raise HelipError(
            f"dataset.path={path} is an address: copy the shards to a local disk first, HELIP reads them by offset"
        )
    if Path(path).is_dir():
        shards = sorted(Path(path).glob("*.tar"))
        if not shards:
            raise HelipError(f"no .tar file in {path}: {HOW_TO_GET}")
        if odd := [shard for shard in shards if not shard.is_file()]:
            raise HelipError(f"{odd[0]} is a broken link or no file: restore it, or take it out of the folder")
        return shards
    try:
        shards = [Path(name) for name in braceexpand.braceexpand(path)]
    except ValueError as error:
        raise HelipError(
            f"dataset.path={path} has a brace without its other half: give DIR/{{00000..00331}}.tar"
        ) from error
    there = [shard for shard in shards if shard.is_file()]
    if not there:
        raise HelipError(f"no shards at {path}: {HOW_TO_GET}")
    if len(there) < len(shards):
        missing = next(shard for shard in shards if not shard.is_file())
        raise HelipError(
            f"{len(shards) - len(there)} of the {len(shards)} shards of {path} are missing, the first is "
            f"{missing.name}: fetch them, or name those that you have in dataset.path"
        )
    return shards


def open_index(dataset: DatasetSpec, artifacts: Path, on_error: str, console: Console) -> ShardIndex:
    """The shard index of a dataset: the one on disk if shards and times are unchanged, else a new scan.

    Raises:
        HelipError: no shards, a damaged one with on_error="fail", or nothing usable.
    """
    assert dataset.path is not None
    shards = resolve_shards(dataset.path)
    folder = index_folder(dataset.name, shards, artifacts)
    if not (folder / "shards.json").exists():  # what is there needs no lock: artefacts may lie on a read-only disk
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "shards.json").exists():
                clear_stale(folder)
                bar = iter(track(range(len(shards)), "indexing shards", console=console, disable=len(shards) < 20))
                built = ShardIndex.build(shards, on_shard=lambda done: next(bar, None))  # type: ignore[arg-type,return-value]
                built.save(folder)
    index = ShardIndex.load(folder)
    if index.problems and on_error == "fail":
        raise HelipError(f"{index.problems[0]}; download it again, or set data.on_error=skip to use what is good")
    for problem in index.problems[:5]:
        console.print(f"warning: {problem}; the samples before the damage are used")
    if len(index.problems) > 5:
        console.print(f"warning: {len(index.problems) - 5} more shards are damaged")
    for sentence in incomplete(index):
        console.print(f"warning: {sentence}")
    return index


def incomplete(index: ShardIndex) -> list[str]:
    """Sentences on the samples that have no image or no caption; none where all have both."""
    rows = np.flatnonzero(~index.valid)
    if not len(rows):
        return []
    first = index.where(int(rows[0]))
    many = f"{len(rows):,} of {len(index):,} samples have no image or no caption, the first is {first}"
    return [many, *filter(None, [index.apart()])]


def index_folder(name: str, shards: list[Path], artifacts: Path) -> Path:
    """Of the shard index, named by paths, sizes and times."""
    listing = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    return artifacts / name / f"shards-{digest(listing)}"


def rows_of_part(index: ShardIndex, dataset: DatasetSpec, part: str) -> range:
    """Rows of a named part. Raises HelipError when the dataset has none of that name."""
    if part not in dataset.parts:
        raise HelipError(f"dataset {dataset.name} has no part {part!r}, only {', '.join(dataset.parts)}")
    return index.rows_of(dataset.parts[part])


def usable_rows(index: ShardIndex, dataset: DatasetSpec, part: str) -> np.ndarray:
    """(N,) bool, the valid rows of a part."""
    rows = rows_of_part(index, dataset, part)
    mask = np.zeros(len(index), bool)
    mask[rows.start : rows.stop] = index.valid[rows.start : rows.stop]
    return mask


def shard_weights(index: ShardIndex, dataset: DatasetSpec) -> np.ndarray | None:
    """(S,) visits per epoch of the rows of each shard, None where all are 1.

    Raises:
        HelipError: an entry without shards or weight, or a weight that is not above 0.
    """
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
