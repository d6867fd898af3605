"""From embeddings to a HardPairIndex, in memory or in a folder.

Legend: N rows, d width of a modality, K partners.
"""

import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from helip.artifacts.atomic import digest
from helip.artifacts.hard_pairs import ARRAYS, HardPairIndex
from helip.errors import HelipError, in_arguments
from helip.mining.block_store import BlockStore
from helip.mining.plan import Plan, Search, make_plan, measured, open_search, read_plan
from helip.mining.progress import search_progress
from helip.mining.settings import Limit, SearchSettings
from helip.mining.statistics import describe, filter_shares
from helip.mining.vectors import Pairs, open_pairs


def mine_hard_pairs(
    image: np.ndarray | torch.Tensor,
    text: np.ndarray | torch.Tensor,
    k: int = 50,
    score: str = "joint",
    near_duplicate: Limit = 0.98,
    min_similarity: Limit = 0.0,
    *,
    backend: str = "auto",
    valid: np.ndarray | torch.Tensor | None = None,
    fingerprint: str | None = None,
    device: str = "cpu",
    progress: bool = False,
    **more: Any,
) -> HardPairIndex:
    """The k hard pairs of every row of two arrays.

    Args:
        image: (N, d_I) float16, float32 or float64 embeddings, normalised or not, an array or a tensor on any device
            (bfloat16 is read as float32); a memmap is read block by block.
        text: (N, d_T), likewise; row i of both is the same pair.
        k: partners per row, 1 to N - 1.
        score: "joint" (product of the cosines), "image" or "text".
        near_duplicate: highest cosine of a hard pair, or an (image, text) pair of them.
        min_similarity: lowest cosine of a hard pair, or an (image, text) pair of them.
        backend: "auto", "exact", "approximate", "pool", or the dotted name of a class of your own.
        valid: (N,) bool, rows that take part; all if None.
        fingerprint: of the ShardIndex whose rows these are; a loader refuses the index with other shards.
        device: "cpu" or "cuda".
        progress: show a bar on stderr.
        more: further fields of SearchSettings.

    Returns:
        A HardPairIndex in memory; `save(folder)` writes it.

    Raises:
        HelipError: embeddings or settings that cannot be used; it names the argument.
        TypeError: `more` has a name that is no field of SearchSettings.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> index = mine_hard_pairs(rng.random((100, 16)), rng.random((100, 8)), k=5)
        >>> index.rows.shape
        (100, 5)
    """
    if unknown := sorted(more.keys() - {one.name for one in fields(SearchSettings)} | more.keys() & {"depth"}):
        raise TypeError(f"mine_hard_pairs() got an unexpected keyword argument {unknown[0]!r}")
    meta = {} if fingerprint is None else {"fingerprint": fingerprint}
    with in_arguments(depth="k"), tempfile.TemporaryDirectory(prefix="helip-") as folder:
        settings = SearchSettings(
            score=score, depth=k, near_duplicate=near_duplicate, min_similarity=min_similarity, backend=backend, **more
        )
        pairs = open_pairs(as_array(image), as_array(text), valid=None if valid is None else as_array(valid))
        found = mine(pairs, Path(folder) / "index", settings, meta=meta, device=device, progress=progress)
        return HardPairIndex(**{name: np.array(getattr(found, name)) for name in ARRAYS}, meta=found.meta)


def as_array(values: Any) -> np.ndarray:
    """An array as it is; a tensor as an array on the CPU, bfloat16 as float32."""
    if not isinstance(values, torch.Tensor):
        return cast(np.ndarray, np.asanyarray(values))  # a memory map stays one
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def mine(
    pairs: Pairs,
    folder: Path,
    settings: SearchSettings,
    *,
    meta: dict[str, Any] | None = None,
    rank: int = 0,
    world_size: int = 1,
    barrier: Callable[[], object] = lambda: None,
    device: str = "cpu",
    progress: bool = True,
) -> HardPairIndex:
    """Mine into a folder, and resume what an earlier, killed call of the same search left beside it.

    rows.npy and the scores are the same bytes for any number of ranks, any `block_rows` and any interruptions.

    Args:
        pairs: the embeddings, with the rows and groups that take part.
        folder: of the index; `folder`.partial-* holds the finished blocks until all are there.
        settings: rules, depth, backend.
        meta: stored in the index; its `fingerprint` and `content` tell searches over other data apart.
        rank, world_size: this process among those that share the work and the disk.
        barrier: waits for all ranks.
        device: "cpu" or "cuda".
        progress: show a bar on stderr.

    Raises:
        HelipError: a depth that the rows do not allow; blocks missing because another rank failed.
    """
    if not 0 < settings.depth < len(pairs):
        raise HelipError(
            f"search.depth={settings.depth} must be from 1 to {len(pairs) - 1}, because there are {len(pairs)} rows."
        )
    meta = meta or {}
    store = _store(pairs, folder, settings, device, meta)
    source = make_plan(pairs, store.folder, settings, device) if rank == 0 else None
    barrier()
    plan = read_plan(store.folder)
    search = open_search(pairs, store.folder, settings, plan, device, source)
    store.edges = search.edges(settings.unit(device))
    _search_blocks(pairs, store, search, rank, world_size, progress)
    order = search.order
    del search, source  # frees the rounded rows before the index is joined
    barrier()
    if rank == 0:
        known: dict[str, Any] = {"settings": settings.identity(), "hash": digest(settings.identity()), "search": plan}
        known["groups"] = pairs.group_names
        store.assemble({**known, **meta}, order, partial(_statistics, pairs, settings, store.folder, plan))
    barrier()
    return HardPairIndex.load(folder)


def _store(pairs: Pairs, folder: Path, settings: SearchSettings, device: str, meta: dict[str, Any]) -> BlockStore:
    """The folder of this search's blocks; another search, or one of other rows, has another folder."""
    known = {name: meta[name] for name in ("fingerprint", "hash", "content") if name in meta}
    identity = [settings.identity(), settings.unit(device), len(pairs), _sample(pairs), known]
    return BlockStore(Path(folder), digest(identity), len(pairs), settings.depth)


def _search_blocks(pairs: Pairs, store: BlockStore, search: Search, rank: int, world_size: int, progress: bool) -> None:
    done = store.done()
    mine_now = [block for block in store.blocks if block % world_size == rank and block not in done]
    total = sum(search.cost(store.places(block)) for block in mine_now)
    label, writing = f"mining ({search.name})", None
    with search_progress(label, total, pairs, progress and rank == 0) as tick, ThreadPoolExecutor(1) as writer:
        for block in mine_now:
            found = search.search(store.places(block), tick)
            if writing is not None:
                writing.result()
            writing = writer.submit(store.write, block, found)  # while the next block is searched
        if writing is not None:
            writing.result()


def _statistics(
    pairs: Pairs, settings: SearchSettings, folder: Path, plan: Plan, index: HardPairIndex, *counts: Any
) -> dict[str, Any]:
    shares = {"removed_share_of_pairs": filter_shares(pairs, settings)}
    return {**describe(index, *counts), **shares, **measured(folder, index, plan)}


def _sample(pairs: Pairs) -> str:
    """A digest of 64 embeddings and of all valid rows and groups, which tells apart different data of the same size."""
    rows = np.linspace(0, len(pairs) - 1, min(len(pairs), 64)).astype(np.int64)
    hashed = hashlib.sha256()
    for array in (*(v.array[rows] for v in pairs.modalities), pairs.valid, *pairs.groups, pairs.pair_group):
        hashed.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()
