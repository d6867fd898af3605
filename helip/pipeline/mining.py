"""From a dataset to its hard pairs: the index that fits is found, otherwise it is mined."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from rich.console import Console

from helip.artifacts.atomic import clear_stale, digest
from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError
from helip.mining.miner import mine
from helip.mining.reuse import reuse
from helip.mining.settings import SearchSettings
from helip.pipeline.arrays import Precomputed
from helip.pipeline.dataset import DatasetSpec, usable_rows
from helip.pipeline.embeddings import EmbeddingRequest, ensure_embeddings
from helip.pipeline.estimate import describe_cost
from helip.pipeline.run import without_environment
from helip.pipeline.runtime import artefact_lock, barrier


@dataclass(frozen=True)
class Rows:
    """What may be mined: the training part of a dataset, or all rows of bare arrays.

    Attributes:
        wanted: (N,) bool, rows that may have and be hard pairs.
        index: the shards; None for bare arrays.
    """

    wanted: np.ndarray
    fingerprint: str
    index: ShardIndex | None

    @property
    def usable(self) -> int:
        return int(self.wanted.sum())


def training_rows(index: ShardIndex, dataset: DatasetSpec) -> Rows:
    return Rows(usable_rows(index, dataset, "train"), index.fingerprint, index)


@dataclass(frozen=True)
class MiningRequest:
    """What is mined, and where it goes.

    Attributes:
        embedding: how embeddings are made, or arrays that are there already.
        topk: hard pairs per target that training will use; search.depth are stored.
        exclude_copies: pairs with the same image or caption bytes are no hard pairs of each other.
        artifacts: the folder that all runs share.
        index_folder: where the user wants the hard pairs; None names them by what made them.
    """

    dataset: DatasetSpec
    embedding: EmbeddingRequest | Precomputed
    search: SearchSettings
    topk: int
    artifacts: Path
    index_folder: Path | None = None
    exclude_copies: bool = True

    def folder(self, rows: Rows) -> Path:
        """Of the hard pairs."""
        name = f"{self.search.score}-{digest(self.settings() | {'fingerprint': rows.fingerprint})}"
        return self.index_folder or self.artifacts / self.dataset.name / "hard_pairs" / name

    def embedding_folder(self, index: ShardIndex) -> Path:
        """Of the embeddings of the shards; not for arrays that the user brings."""
        assert isinstance(self.embedding, EmbeddingRequest)
        name = f"{self.embedding.name}-{self.embedding.hash(index)}"
        return self.artifacts / self.dataset.name / "embeddings" / name

    def made_of(self, rows: Rows) -> dict[str, Any]:
        """What an index says of its origin."""
        made = {"fingerprint": rows.fingerprint, "dataset": self.dataset.name, "request": self.settings()}
        return without_environment(made)

    def settings(self) -> dict[str, Any]:
        """All that decides the hard pairs, except the shards; JSON-like, for hashes and for naming differences."""
        search = self.search.identity()
        search.pop("depth")
        return {
            "encoders": self.embedding.name,
            "embedding": self.embedding.identity,
            "part": self.dataset.parts["train"],
            "exclude_copies": self.exclude_copies,
            "search": search,
        }


@dataclass(frozen=True)
class Mined:
    """Hard pairs and what it took; `seconds` is empty when the index was found."""

    index: HardPairIndex
    folder: Path
    seconds: dict[str, float]


def find_hard_pairs(request: MiningRequest, rows: Rows) -> HardPairIndex | None:
    """The index of the same settings on the same shards, however deep.

    Raises:
        HelipError: the index in `paths.index` was built on other shards or settings.
    """
    folder = request.folder(rows)
    if not (folder / "meta.json").exists():
        return None
    found = HardPairIndex.load(folder)
    if found.meta.get("fingerprint") != rows.fingerprint:
        raise HelipError(
            f"the hard pairs in {folder} were mined on other shards (fingerprint "
            f"{str(found.meta.get('fingerprint'))[:8]}) than dataset {request.dataset.name} has now "
            f"({rows.fingerprint[:8]}): mine again, or name another paths.index"
        )
    if "imported" in found.meta:  # by python -m helip.formats: no settings of ours made it
        if found.depth < request.topk:
            depth = found.depth
            raise HelipError(f"the imported hard pairs in {folder} are {depth} a row: set helip.topk={depth} or less")
        return found
    if differing := _differing(request.settings(), found.meta.get("request", {})):
        raise HelipError(f"the hard pairs in {folder} were mined with other settings: {', '.join(differing)}")
    return found


def ensure_hard_pairs(
    request: MiningRequest, rows: Rows, trainer: pl.Trainer, console: Console, auto_limit: int | None = None
) -> Mined:
    """The hard pairs of the training part, found or mined.

    Args:
        auto_limit: rows above which nothing is mined (train.py); None mines whatever the size (mine.py).

    Raises:
        HelipError: topk does not fit the number of rows, the index in `paths.index` holds fewer than topk partners, or
            nothing fits and the dataset is larger than auto_limit.
    """
    check_topk(request.topk, rows.usable)
    found = find_hard_pairs(request, rows)
    barrier()
    folder = request.folder(rows)
    if found is not None and found.depth >= request.topk:
        return Mined(found, folder, {})
    if found is not None and request.index_folder and auto_limit is not None:
        found.topk(request.topk)  # says what to run; training does not write into a folder that somebody named
    if auto_limit is not None and rows.usable > auto_limit:
        raise HelipError(_nothing_fits(request, rows, auto_limit))
    console.print(
        f"mining {request.dataset.name}: {describe_cost(rows.usable, len(rows.wanted), request.search.depth, trainer)}"
    )
    started = time.perf_counter()
    embedded_rows = _embeddings(request, rows, trainer, console)
    embedded = time.perf_counter()
    with artefact_lock(folder, console):
        found = find_hard_pairs(request, rows)  # by the job that this one waited for
        barrier()  # every rank has looked before any rank writes
        if found is not None and found.depth >= request.topk:
            return Mined(found, folder, {})
        found = _search(request, rows, embedded_rows, trainer)
    return Mined(found, folder, {"embeddings": embedded - started, "search": time.perf_counter() - embedded})


def reuse_hard_pairs(request: MiningRequest, rows: Rows, source: Path, trainer: pl.Trainer, console: Console) -> Mined:
    """The hard pairs under stricter rules than the index in `source` has: lists filtered, short rows searched again.

    Raises:
        HelipError: the index is of other shards or embeddings, or one of its rules is stricter than the one asked for.
    """
    index = HardPairIndex.load(source)
    ours, theirs = request.settings(), index.meta.get("request", {})
    same = all(theirs.get(name) == ours[name] for name in ("encoders", "embedding", "part"))
    if not same or index.meta.get("fingerprint") != rows.fingerprint:
        raise HelipError(f"reuse={source} was mined on other shards or embeddings than these settings name: mine again")
    folder = request.folder(rows)
    with artefact_lock(folder, console):
        found = find_hard_pairs(request, rows)
        barrier()
        if found is not None:
            return Mined(found, folder, {})
        embedded = _embeddings(request, rows, trainer, console)
        began = time.perf_counter()
        if trainer.global_rank == 0:
            clear_stale(folder)
            reuse(
                index,
                embedded.image,
                embedded.text,
                folder,
                replace(request.search, depth=min(request.search.depth, index.depth)),
                meta=request.made_of(rows),
                device=str(trainer.strategy.root_device),
                **embedded.groups(),
            )
        barrier()
    return Mined(HardPairIndex.load(folder), folder, {"reuse": time.perf_counter() - began})


@dataclass(frozen=True)
class EmbeddedRows:
    """What is searched: image (N, d_I), text (N, d_T), `usable` rows (N,), and groups (N,) of equal bytes if known."""

    image: np.ndarray
    text: np.ndarray
    usable: np.ndarray
    image_group: np.ndarray | None = None
    text_group: np.ndarray | None = None

    def groups(self) -> dict[str, Any]:
        """Keyword arguments of a search besides the embeddings."""
        return {"valid": self.usable, "image_group": self.image_group, "text_group": self.text_group}


def stored_rows(request: MiningRequest, rows: Rows, store: EmbeddingStore) -> EmbeddedRows:
    """A store as it is searched."""
    groups = (store.content[:, 0], store.content[:, 1]) if request.exclude_copies else (None, None)
    return EmbeddedRows(store.image, store.text, store.valid & rows.wanted, *groups)


def bare_arrays(request: MiningRequest, rows: Rows) -> EmbeddedRows:
    """The user's own embeddings. Raises HelipError when they are not one for each row."""
    assert isinstance(request.embedding, Precomputed)
    image, text = request.embedding.load(rows.index, rows.wanted)
    if len(image) != len(rows.wanted):
        raise HelipError(
            f"encoders.image has {len(image):,} rows, but dataset {request.dataset.name} has {len(rows.wanted):,}: "
            "embeddings must be in the order of the rows, one for each"
        )
    return EmbeddedRows(image, text, rows.wanted & request.embedding.present(rows.index, rows.wanted))


def _embeddings(request: MiningRequest, rows: Rows, trainer: pl.Trainer, console: Console) -> EmbeddedRows:
    if isinstance(request.embedding, Precomputed):
        return bare_arrays(request, rows)
    assert rows.index is not None
    folder = request.embedding_folder(rows.index)
    store = ensure_embeddings(request.embedding, rows.index, rows.wanted, folder, trainer, console)
    return stored_rows(request, rows, store)


def _search(request: MiningRequest, rows: Rows, embedded: EmbeddedRows, trainer: pl.Trainer) -> HardPairIndex:
    count = int(embedded.usable.sum())
    check_topk(request.topk, count)
    depth = min(max(request.search.depth, request.topk), count - 1)
    return mine(
        embedded.image,
        embedded.text,
        request.folder(rows),
        replace(request.search, depth=depth),
        meta=request.made_of(rows),
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        barrier=barrier,
        device=str(trainer.strategy.root_device),
        **embedded.groups(),
    )


def check_topk(topk: int, rows: int) -> None:
    """Raises HelipError unless 1 <= topk < rows."""
    if not 1 <= topk < rows:
        raise HelipError(
            f"helip.topk={topk} must be at least 1 and less than the {rows} usable rows of the training part"
        )


def _nothing_fits(request: MiningRequest, rows: Rows, limit: int) -> str:
    """Name the nearest index, the settings that differ, and the command that makes the right one."""
    sentence = f"no hard pairs fit these settings, and {rows.usable:,} rows are more than mine.auto_limit={limit:,}"
    candidates = []
    own = request.settings() | {"fingerprint": rows.fingerprint}
    for path in sorted((request.artifacts / request.dataset.name / "hard_pairs").glob("*/meta.json")):
        meta = json.loads(path.read_text(encoding="utf-8"))
        candidates.append(
            (path.parent, _differing(own, meta.get("request", {}) | {"fingerprint": meta.get("fingerprint")}))
        )
    if candidates:
        folder, differing = min(candidates, key=lambda candidate: len(candidate[1]))
        sentence += f"; the nearest index is {folder}, which differs in {', '.join(differing) or 'its depth'}"
    return f"{sentence}: run mine.py with the same overrides first (it prints the estimated time)"


def _differing(own: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Settings that differ, each with both values."""
    mine, theirs = _flat(own), _flat(other)
    return [
        f"{name} ({theirs.get(name)} there, {mine.get(name)} here)"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: json.dumps(value)}
    return {
        name: leaf for key, inner in value.items() for name, leaf in _flat(inner, f"{prefix}.{key}".strip(".")).items()
    }
