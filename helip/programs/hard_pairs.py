"""The hard pairs of a dataset: found if there is an index that fits, otherwise mined."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from rich.console import Console

from helip.artifacts.atomic import clear_stale, refuse_foreign
from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import FILES, HardPairIndex
from helip.embedding.ensure import ensure_embeddings, repaired_rows
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.mining.distinct import pair_ids
from helip.mining.estimate import describe_cost
from helip.mining.miner import mine
from helip.mining.request import CONTENT, EMBEDDED, Mined, MiningRequest, Rows
from helip.mining.reuse import reuse
from helip.mining.statistics import HEADERS, similarity_quantiles
from helip.mining.vectors import GROUPS, Pairs, open_pairs
from helip.programs.find import find_hard_pairs, nothing_fits
from helip.ranks import artefact_lock, barrier
from helip.report.tables import Table


def ensure_hard_pairs(
    request: MiningRequest, rows: Rows, trainer: pl.Trainer, console: Console, auto_limit: int | None = None
) -> Mined:
    """The hard pairs of the training part, found or mined.

    Args:
        auto_limit: rows above which nothing is mined (train.py); None: no limit (mine.py).

    Raises:
        HelipError: topk does not fit the number of rows; `paths.index` has foreign files, or an index of less than topk
            hard pairs; nothing fits and there are more than auto_limit rows; or a row is unreadable and data.on_error
            is `fail`.
    """
    check_topk(request.topk, rows.usable)
    refuse_foreign(request.folder(rows), FILES)
    found = find_hard_pairs(request, rows, any_precision=auto_limit is not None)
    barrier()
    folder = request.folder(rows)
    if found is not None and _repaired(request, rows, found, trainer):
        found = None
    if found is None and request.index_folder and auto_limit is not None and (folder / "meta.json").exists():
        raise HelipError(
            f"rows can be read now that had no embedding when the hard pairs in {folder} were mined, or their shards "
            "were replaced: run mine.py with the same overrides"
        )
    if found is not None and found.depth >= request.topk:
        return Mined(found, folder, {})
    if found is not None and request.index_folder and auto_limit is not None:
        found.topk(request.topk)  # raises with the command to run: training does not write into the user's folder
    if auto_limit is not None and rows.usable > auto_limit:
        raise HelipError(nothing_fits(request, rows, auto_limit))
    device, depth = trainer.strategy.root_device, request.search.depth
    cost = describe_cost(rows.usable, len(rows.wanted), depth, device, trainer.world_size)
    console.print(f"mining {request.dataset.name}: {cost}")
    started = time.perf_counter()
    embedded_rows = _embeddings(request, rows, trainer, console)
    embedded = time.perf_counter()
    with artefact_lock(folder, console):
        found = find_hard_pairs(request, rows)  # perhaps mined by the job that this one waited for
        barrier()  # every rank has looked before any rank writes
        if found is not None and found.depth >= request.topk:
            return Mined(found, folder, {})
        found = _search(request, rows, embedded_rows, trainer, console)
    return Mined(found, folder, {"embeddings": embedded - started, "search": time.perf_counter() - embedded})


def _repaired(request: MiningRequest, rows: Rows, found: HardPairIndex, trainer: pl.Trainer) -> bool:
    """Whether rows were repaired or replaced since `found` was mined; the same answer on all ranks."""
    if rows.index is None or isinstance(request.embedding, Precomputed) or EMBEDDED not in found.meta:
        return False
    repaired = False
    if trainer.global_rank == 0:
        folder = request.embedding_folder(rows.index)
        repaired = len(repaired_rows(request.embedding, rows.index, rows.wanted, folder)) > 0
    barrier()
    return trainer.strategy.broadcast(repaired) if trainer.world_size > 1 else repaired


def reuse_hard_pairs(request: MiningRequest, rows: Rows, source: Path, trainer: pl.Trainer, console: Console) -> Mined:
    """Apply stricter rules to the index in `source`: filter its lists, and search short rows again.

    Raises:
        HelipError: the index is of other shards or embeddings, or one of its rules is stricter than the requested one.
    """
    index = HardPairIndex.load(source)
    ours, theirs = request.settings(), index.meta.get("request", {})
    same = all(theirs.get(name) == ours[name] for name in ("encoders", "embedding", "part"))
    if not same or index.meta.get("fingerprint") != rows.fingerprint:
        raise HelipError(
            f"reuse={source} was mined on other shards or embeddings than those of the settings: mine again"
        )
    folder = request.folder(rows)
    refuse_foreign(folder, FILES)
    with artefact_lock(folder, console):
        found = find_hard_pairs(request, rows)
        barrier()
        if found is not None:
            return Mined(found, folder, {})
        embedded = _embeddings(request, rows, trainer, console)
        count = int(embedded.usable.sum())
        if index.meta.get(CONTENT, embedded.content) != embedded.content:
            raise HelipError(f"reuse={source} was mined on shards that were replaced since: mine again")
        if index.meta.get(EMBEDDED, count) != count:
            mined = index.meta[EMBEDDED]
            raise HelipError(f"reuse={source} was mined on {mined:,} embedded rows, {count:,} are now: mine again")
        began = time.perf_counter()
        if trainer.global_rank == 0:
            clear_stale(folder)
            reuse(
                index,
                embedded.pairs(),
                folder,
                replace(request.search, depth=min(request.search.depth, index.depth)),
                meta=request.made_of(rows, count, embedded.content),
                device=str(trainer.strategy.root_device),
            )
        barrier()
    return Mined(HardPairIndex.load(folder), folder, {"reuse": time.perf_counter() - began})


@dataclass(frozen=True)
class EmbeddedRows:
    """Input of a search: image (N, d_I), text (N, d_T), `usable` rows (N,), and groups (N,) of equal bytes if known.

    `content` is a digest of the embedded bytes, if known.
    """

    image: np.ndarray
    text: np.ndarray
    usable: np.ndarray
    image_group: np.ndarray | None = None
    text_group: np.ndarray | None = None
    pair_group: np.ndarray | None = None
    content: str | None = None

    def pairs(self) -> Pairs:
        """Checked and measured. Raises HelipError as `open_pairs`."""
        groups = {name: getattr(self, name) for name in GROUPS}
        return open_pairs(self.image, self.text, valid=self.usable, **groups)


def stored_rows(request: MiningRequest, rows: Rows, store: EmbeddingStore) -> EmbeddedRows:
    """The rows of a store, ready for the search."""
    image, text = store.content[:, 0], store.content[:, 1]
    groups = (image, text) if request.exclude_copies else (None, None)
    same = pair_ids(image, text) if request.distinct else None
    usable, content = store.valid & rows.wanted, store.content_digest(rows.wanted)
    return EmbeddedRows(store.image, store.text, usable, *groups, same, content=content)


def bare_arrays(request: MiningRequest, rows: Rows, console: Console) -> EmbeddedRows:
    """The user's own embeddings. Raises HelipError unless there is one for each row."""
    assert isinstance(request.embedding, Precomputed)
    image, text = request.embedding.load(rows.index, rows.wanted, console)
    if len(image) != len(rows.wanted):
        raise HelipError(
            f"encoders.image has {len(image):,} rows, but dataset {request.dataset.name} has {len(rows.wanted):,}: "
            "embeddings must be in the order of the rows, one for each"
        )
    return EmbeddedRows(image, text, rows.wanted & request.embedding.present(rows.index, rows.wanted))


def _embeddings(request: MiningRequest, rows: Rows, trainer: pl.Trainer, console: Console) -> EmbeddedRows:
    if isinstance(request.embedding, Precomputed):
        return bare_arrays(request, rows, console)
    assert rows.index is not None
    folder = request.embedding_folder(rows.index)
    store = ensure_embeddings(request.embedding, rows.index, rows.wanted, folder, trainer, console)
    return stored_rows(request, rows, store)


def _search(
    request: MiningRequest, rows: Rows, embedded: EmbeddedRows, trainer: pl.Trainer, console: Console
) -> HardPairIndex:
    pairs, count = embedded.pairs(), int(embedded.usable.sum())
    if count > 1:
        found = similarity_quantiles(pairs, request.search)
        title = "Cosines of random pairs, and the pairs beyond each limit (helip.min_similarity, helip.near_duplicate)"
        console.print(Table(title, HEADERS, [one.line() for one in found]).rich())
    check_topk(request.topk, count)
    depth = min(max(request.search.depth, request.topk), count - 1)
    return mine(
        pairs,
        request.folder(rows),
        replace(request.search, depth=depth),
        meta=request.made_of(rows, count, embedded.content),
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        barrier=barrier,
        device=str(trainer.strategy.root_device),
    )


def check_topk(topk: int, rows: int) -> None:
    """Raises HelipError unless 1 <= topk < rows."""
    if not 1 <= topk < rows:
        raise HelipError(
            f"helip.topk={topk} must be at least 1 and less than the {rows} usable rows of the training part"
        )
