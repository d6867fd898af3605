"""Embeddings of the wanted rows: reused, continued, adopted from an older store, or computed."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from rich.console import Console

from helip.artifacts.atomic import digest
from helip.artifacts.embeddings import ARRAYS, GOOD, PENDING, EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.artifacts.sums import check_sums
from helip.data.reader import Caption, CaptionRule, SampleReader, Unreadable, content_digest, content_digests
from helip.embedding.embedder import Embedder, read_row, row_loader
from helip.embedding.encoders import Encoders, embedding_dims
from helip.errors import HelipError
from helip.ranks import artefact_lock, barrier

LOOKED_AT = 4  # assumption: rows compared per shard; a replaced shard differs almost everywhere
PROBES = 100  # assumption: if none of so many rows can be read, embedding stops


@dataclass(frozen=True)
class EmbeddingRequest:
    """Which encoders to use, and how to read the rows.

    Attributes:
        identity: JSON-like, with the caption field; equal identities give equal embeddings of equal shards.
        create: loads the weights; called only when something must be computed.
        draft: large JPEGs are decoded at a fraction of their size; part of `identity`.
    """

    name: str
    identity: dict[str, Any]
    create: Callable[[], Encoders]
    caption: Caption | CaptionRule = "txt"
    on_error: str = "skip"
    batch_size: int = 256
    workers: int = 1
    draft: bool = False

    def hash(self, index: ShardIndex) -> str:
        """Names the embeddings."""
        return digest({"encoders": self.identity, "fingerprint": index.fingerprint})


def ensure_embeddings(
    request: EmbeddingRequest,
    index: ShardIndex,
    wanted: np.ndarray,
    folder: Path,
    trainer: pl.Trainer,
    console: Console,
) -> EmbeddingStore:
    """The store in `folder`, with every row of the mask `wanted` (N,) embedded or marked unreadable.

    Raises:
        HelipError: no row could be embedded, or a row is unreadable and request.on_error is `fail`.
    """
    with artefact_lock(folder, console):
        if trainer.global_rank == 0 and len(repaired := repaired_rows(request, index, wanted, folder)):
            EmbeddingStore.reopen(folder).state[repaired] = PENDING
            console.print(
                f"embeddings: {len(repaired):,} rows could not be read before, or are of shards that were replaced"
            )
        barrier()
        missing = not _has_all(folder, wanted)
        barrier()  # every rank has read before any rank writes
        if missing:
            encoders = request.create()
            if trainer.global_rank == 0:
                _prepare(request, index, folder, embedding_dims(encoders), console)
            barrier()
            _fill(request, encoders, SampleReader(index, request.caption), wanted, folder, trainer, console)
    store = EmbeddingStore(folder)
    if not store.valid[wanted].any():
        raise HelipError(f"none of the {int(wanted.sum())} rows could be embedded: check data.caption and the images")
    return store


def unreadable_rows(folder: Path, wanted: np.ndarray) -> np.ndarray | None:
    """Rows of `wanted` (N,) that the store in `folder` marks unreadable; None without a store."""
    if not (folder / "meta.json").exists():
        return None
    try:
        return EmbeddingStore(folder).unreadable(wanted)
    except HelipError:  # the error of a damaged store is reported where its embeddings are used
        return None


def repaired_rows(request: EmbeddingRequest, index: ShardIndex, wanted: np.ndarray, folder: Path) -> np.ndarray:
    """Rows of `wanted` (N,) that must be embedded again.

    These are rows that were unreadable and can be read now, and all rows of shards whose content changed. Only shards
    with a changed time are checked, unless request.on_error is `fail`.

    Raises:
        HelipError: a row is still unreadable, and request.on_error is `fail`.
    """
    rows = unreadable_rows(folder, wanted)
    if rows is None:
        return np.empty(0, np.int64)
    since, reader = (folder / "meta.json").stat().st_mtime, SampleReader(index, request.caption)
    newer = [shard for shard, place in enumerate(index.shards) if reader.storages.of(place).changed(place) >= since]
    store = EmbeddingStore(folder)
    repaired = replaced_rows(store, reader, newer, wanted) + left_out_rows(store, reader.rule, wanted)
    if request.on_error == "skip":
        rows = rows[np.isin(index.shard_of(rows), newer)]
    for row in rows.tolist():
        with suppress(Unreadable):
            read_row(reader, row, request.on_error)
            repaired.append(row)
    return np.unique(np.array(repaired, np.int64))


def replaced_rows(store: EmbeddingStore, reader: SampleReader, shards: Iterable[int], wanted: np.ndarray) -> list[int]:
    """All good rows of `wanted` (N,) in shards of which a sample of rows has other bytes than were embedded.

    The fingerprint does not detect a replaced shard with the same members of the same sizes.
    """
    found: list[int] = []
    for shard in shards:
        first, end = reader.index.starts[shard : shard + 2].tolist()
        rows = first + np.flatnonzero(wanted[first:end] & (store.state[first:end] == GOOD))
        looked_at = rows[np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(np.int64))] if len(rows) else rows
        if not all(same_bytes(store, reader, row) for row in looked_at.tolist()):
            found += rows.tolist()
    return found


def left_out_rows(store: EmbeddingStore, rule: CaptionRule, wanted: np.ndarray) -> list[int]:
    """Good rows of `wanted` (N,) with a caption that `rule` leaves out; they were embedded under another rule."""
    spelled = {form for word in rule.left_out for form in (word, word.lower(), word.upper(), word.capitalize())}
    spelled |= {"NaN"} if "nan" in spelled else set()
    digests = [content_digest(word) for word in sorted(spelled)]
    return np.flatnonzero(wanted & (store.state == GOOD) & np.isin(store.content[:, 1], digests)).tolist()


def same_bytes(store: EmbeddingStore, reader: SampleReader, row: int) -> bool:
    """Whether image and caption equal the embedded ones; True for older stores, which have no digests."""
    try:
        raw = reader.read(row)
    except Unreadable:
        return False
    stored = np.asarray(store.content[row])
    return not stored.any() or content_digests(raw) == tuple(stored)


def own_rows(rows: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """The contiguous part of `rows` (n,) of a rank, so that ranks write to different pages of the store's files.

    Rows are repeated if there are fewer than ranks, because Lightning refuses an empty loader.
    """
    return np.array_split(np.resize(rows, max(len(rows), world_size)), world_size)[rank]


def _has_all(folder: Path, wanted: np.ndarray) -> bool:
    if not (folder / "meta.json").exists():
        return False
    store = EmbeddingStore(folder)
    return store.complete and not len(store.pending(wanted))


def _prepare(
    request: EmbeddingRequest, index: ShardIndex, folder: Path, dims: tuple[int, int], console: Console
) -> None:
    """Create the store, or continue it, with the rows that other stores have of the same shards."""
    meta = {"identity": request.identity, "fingerprint": index.fingerprint}
    meta |= {"shard_fingerprints": index.shard_fingerprints, "starts": index.starts.tolist()}
    store = EmbeddingStore.create(folder, len(index), *dims, meta)
    _adopt(store, folder, console)
    reader = SampleReader(index, request.caption)
    replaced = replaced_rows(store, reader, range(len(index.shards)), np.ones(len(index), bool))
    store.state[replaced] = PENDING


def _fill(
    request: EmbeddingRequest,
    encoders: Encoders,
    reader: SampleReader,
    wanted: np.ndarray,
    folder: Path,
    trainer: pl.Trainer,
    console: Console,
) -> None:
    """Embed the pending rows of `wanted` (N,) on all ranks, and complete the store."""
    store = EmbeddingStore(folder, "r+")
    rows = store.pending(wanted)
    barrier()  # every rank has its rows before any rank writes
    if trainer.global_rank == 0 and 0 < len(rows) < wanted.sum():
        console.print(f"embeddings: {int(wanted.sum()) - len(rows):,} rows exist, {len(rows):,} to embed")
    embedder = Embedder(encoders, store)
    if len(rows):
        if not store.valid.any():
            _probe(reader, rows)
        rows = own_rows(rows, trainer.global_rank, trainer.world_size)
        loader = row_loader(
            encoders, reader, rows, request.batch_size, request.workers, request.on_error, request.draft
        )
        trainer.predict(embedder, loader, return_predictions=False)
        console.print(describe_speed(embedder.seconds, len(rows)))
    store.flush()
    barrier()
    if trainer.global_rank == 0:
        store = EmbeddingStore(folder, "r+")  # with the writes of all ranks
        store.finish(wanted)
        if lost := len(store.unreadable(wanted)):
            console.print(f"embeddings: {lost:,} of {int(wanted.sum()):,} rows could not be read")
    barrier()
    for reason in embedder.reasons:
        console.print(f"warning: left out {reason}")


def describe_speed(seconds: dict[str, float], rows: int) -> str:
    """Rows per second of one rank, the shares of reading, computing and writing, and which to speed up."""
    together = max(1e-9, sum(seconds.values()))
    shares = ", ".join(f"{name} {value / together:.0%}" for name, value in seconds.items())
    advice = {
        "read": "reading and decoding are the bottleneck: raise data.workers, or put the shards on a faster disk",
        "compute": "the encoders are the bottleneck",
        "write": "writing is the bottleneck: put paths.artifacts on a faster disk",
    }
    slowest = max(seconds, key=lambda name: seconds[name])
    return f"embeddings: {rows / together:,.0f} rows/s on each rank ({shares}); {advice[slowest]}"


def _probe(reader: SampleReader, rows: np.ndarray) -> None:
    """Raises HelipError if none of PROBES rows, spread over the shards, can be read."""
    chosen = np.unique(rows[np.linspace(0, len(rows) - 1, PROBES).astype(np.int64)])
    for row in chosen.tolist():
        try:
            read_row(reader, row)
            return
        except Unreadable as error:
            reason = str(error)
    raise HelipError(
        f"none of {len(chosen)} samples spread over the shards can be read, the last is {reason}; "
        "check data.caption and the shards"
    )


def _adopt(store: EmbeddingStore, folder: Path, console: Console) -> None:
    """Copy rows of the same shards from other stores of the same encoders, so that only added shards are embedded."""
    own = dict(_spans(store.meta))
    for other_folder in sorted(folder.parent.glob(f"{folder.name.rsplit('-', 1)[0]}-*")):
        if other_folder == folder or not (other_folder / "meta.json").exists():
            continue
        with suppress(HelipError):  # another store is damaged
            other = EmbeddingStore(other_folder)
            if other.meta.get("identity") != store.meta["identity"]:
                continue
            if other.complete and (problems := check_sums(other_folder)):
                console.print(f"warning: embeddings in {other_folder} are not reused: {problems[0]}")
            else:
                _copy_rows(store, other, own)


def _copy_rows(store: EmbeddingStore, other: EmbeddingStore, own: dict[str, tuple[int, int]]) -> None:
    """Copy rows of the shards in `own` that `other` has and `store` lacks."""
    for fingerprint, (start, stop) in _spans(other.meta):
        if fingerprint in own:
            first, last = own[fingerprint]
            fresh = np.flatnonzero((store.state[first:last] == PENDING) & (other.state[start:stop] == GOOD))
            for name in ARRAYS:  # the state last
                getattr(store, name)[first + fresh] = getattr(other, name)[start + fresh]


def _spans(meta: dict[str, Any]) -> list[tuple[str, tuple[int, int]]]:
    """Fingerprint of each shard with its range of rows."""
    return list(zip(meta["shard_fingerprints"], pairwise(meta["starts"]), strict=True))
