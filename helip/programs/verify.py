"""Checks of artefacts: sums, the chain shards -> embeddings -> hard pairs -> checkpoint, and a sample of rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from helip.artifacts.atomic import digest
from helip.artifacts.datasets import index_folder
from helip.artifacts.embeddings import GOOD, EmbeddingStore
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.artifacts.sums import check_sums
from helip.data.reader import SampleReader, Unreadable, content_digests
from helip.embedding.ensure import EmbeddingRequest
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.mining.request import CONTENT, EMBEDDED, MiningRequest, Rows
from helip.mining.settings import SearchSettings
from helip.mining.vectors import GROUPS
from helip.mining.verify import check_form, check_sample
from helip.models.checkpoints import read_checkpoint
from helip.programs.find import find_hard_pairs
from helip.programs.hard_pairs import EmbeddedRows, bare_arrays, stored_rows
from helip.training.resume import find_checkpoint
from helip.training.resume_guard import FIXED_KEY

UNIT = 1e-3  # assumption: no encoder wrote an embedding whose length differs from 1 by more


def origin(index: HardPairIndex) -> str:
    """A digest of the settings and shards of an index and of its embedded rows; equal digests mean equal pairs."""
    embedded = {name: index.meta[name] for name in (EMBEDDED, CONTENT) if name in index.meta}
    return digest(index.meta.get("request", {}) | {"fingerprint": index.meta.get("fingerprint")} | embedded)


def verify(
    request: MiningRequest, rows: Rows, sample: int, checkpoint: str | None, seed: int, console: Console
) -> None:
    """Check everything that the settings name, and print the checks.

    Args:
        sample: number of rows that are searched by brute force; the number of rows of the dataset checks all.
        checkpoint: a checkpoint or run folder that must have been trained on these shards and hard pairs; None: none.

    Raises:
        HelipError: something is missing or has changed; one sentence names all of it.
    """
    index = find_hard_pairs(request, rows)
    if index is None:
        raise HelipError(
            f"there are no hard pairs in {request.folder(rows)}, or rows were repaired or replaced since: "
            "run mine.py with the same overrides first"
        )
    if "imported" in index.meta:
        raise HelipError(
            f"the hard pairs in {request.folder(rows)} were imported: no settings say what they should be, "
            "`sha256sum -c SHA256SUMS` in that folder checks its files"
        )
    targets = np.flatnonzero(rows.wanted)
    if sample < len(targets):
        targets = np.sort(np.random.default_rng(seed).choice(targets, sample, replace=False))
    checks = _checks(request, rows, index, targets, checkpoint, console)
    problems: list[str] = []
    for what, found in checks:
        problems += found
        console.print(f"{'wrong' if found else 'good '}  {what}")
        for problem in found:
            console.print(f"         {problem}")
    if problems:
        more = f"; and {len(problems) - 3} more, listed above" if len(problems) > 3 else ""
        raise HelipError(f"verify found {'; '.join(problems[:3])}{more}")


def _checks(
    request: MiningRequest,
    rows: Rows,
    index: HardPairIndex,
    targets: np.ndarray,
    checkpoint: str | None,
    console: Console,
) -> Iterator[tuple[str, list[str]]]:
    if rows.index is not None:
        folder = index_folder(request.dataset.name, rows.index.shards, request.artifacts, rows.index.members)
        again = f"delete {folder}"
        yield f"sums of the shard index {folder}", _sums(folder, again)
        yield f"headers of {len(rows.index.shards):,} shards", _headers(rows.index, again)
    if isinstance(request.embedding, Precomputed):
        embedded = bare_arrays(request, rows, console)
    else:
        assert rows.index is not None
        folder = request.embedding_folder(rows.index)
        again = f"delete {folder} and mine again"
        store = EmbeddingStore(folder)
        embedded = stored_rows(request, rows, store)
        yield f"sums of the embeddings {folder}", _sums(folder, again)
        yield "fingerprint of the embeddings", _embedding_chain(store, request.embedding, rows, again)
        content = _content(store, SampleReader(rows.index, request.embedding.caption), targets)
        yield f"bytes of {len(targets):,} samples, and their embeddings", [f"{problem}: {again}" for problem in content]
    folder = request.folder(rows)
    again = f"delete {folder} and mine again"
    yield f"sums of the hard pairs {folder}", _sums(folder, again)
    said = [f"{problem}: {again}" for problem in _description(index, request, embedded)]
    yield "what the hard pairs say of their making", said
    if not said:  # the next checks rely on it
        yield from ((what, [f"{one}: {again}" for one in found]) for what, found in _index(index, embedded, targets))
    if checkpoint:
        path = find_checkpoint(Path(checkpoint))
        yield f"origin of the checkpoint {path}", _checkpoint_chain(path, rows, index)


def _sums(folder: Path, again: str) -> list[str]:
    found = check_sums(folder)
    if found is None:
        return [f"{folder} has no SHA256SUMS (an older version wrote it): {again}"]
    return [f"{problem}: {again}" for problem in found]


def _headers(index: ShardIndex, again: str) -> list[str]:
    """Shards whose members do not lie where the shard index says."""
    now = ShardIndex.build(index.shards, members=index.members)
    if now.fingerprint == index.fingerprint and np.array_equal(now.offset, index.offset):
        return []
    differing = [
        path.name
        for path, one, other in zip(index.shards, now.shard_fingerprints, index.shard_fingerprints, strict=True)
        if one != other
    ]
    what = f"{len(differing)} shards, such as {differing[0]}," if differing else "the shards"
    return [
        f"{what} changed since they were indexed (fingerprint {now.fingerprint[:8]} now, {index.fingerprint[:8]} in "
        f"the shard index): restore them, or {again} and mine again"
    ]


def _embedding_chain(store: EmbeddingStore, request: EmbeddingRequest, rows: Rows, again: str) -> list[str]:
    problems = []
    if store.meta.get("fingerprint") != rows.fingerprint:
        theirs = str(store.meta.get("fingerprint"))[:8]
        problems.append(f"the embeddings are of other shards ({theirs}) than these ({rows.fingerprint[:8]}): {again}")
    if store.meta.get("identity") != request.identity:
        problems.append(f"the embeddings are of {store.meta.get('identity')}, not of {request.identity}: {again}")
    if rows.index is not None and store.meta.get("starts") != rows.index.starts.tolist():
        problems.append(f"the embeddings say that their shards begin at other rows: {again}")
    pending = len(store.pending(rows.wanted))
    if pending or not store.complete:
        problems.append(f"{pending:,} rows are not embedded yet: run mine.py")
    return problems


def _content(store: EmbeddingStore, reader: SampleReader, targets: np.ndarray) -> list[str]:
    """Rows whose image or caption bytes changed since they were embedded, or whose embedding is no unit vector."""
    changed, lengths = [], []
    for row in targets[np.asarray(store.state[targets]) == GOOD].tolist():
        stored = np.asarray(store.content[row])
        try:
            raw = reader.read(row)
        except Unreadable as error:
            changed.append(f"{reader.index.where(row)}, which cannot be read any more ({error})")
            continue
        if stored.any() and content_digests(raw) != tuple(stored):
            changed.append(reader.index.where(row))
        norms = [np.linalg.norm(np.asarray(array[row], np.float64)) for array in (store.image, store.text)]
        if not all(abs(norm - 1) <= UNIT for norm in norms):
            lengths.append(f"{reader.index.where(row)} ({norms[0]:.4g}, {norms[1]:.4g})")
    problems = []
    if changed:
        problems.append(f"{len(changed)} samples are not the bytes that were embedded, such as {changed[0]}")
    if lengths:
        problems.append(f"{len(lengths)} embeddings are not of length 1, such as {lengths[0]}")
    return problems


def _description(index: HardPairIndex, request: MiningRequest, embedded: EmbeddedRows) -> list[str]:
    """Rules, search and copies of an index that are not the requested ones."""
    asked, settings, search = request.search, index.meta.get("settings"), index.meta.get("search")
    backend = search.get("backend") if isinstance(search, dict) else None
    groups = [name for name in GROUPS if getattr(embedded, name) is not None]
    problems = []
    if settings != request.settings()["search"] | {"depth": index.depth}:
        problems.append(f"the hard pairs say that their rules were {settings}")
    if backend not in (("exact", "approximate") if asked.backend == "auto" else (asked.backend,)):
        problems.append(f"the hard pairs say that they were searched by {backend}, not by {asked.backend}")
    if index.meta.get("groups") != groups:
        problems.append(f"the hard pairs say that {index.meta.get('groups')} kept copies apart, not {groups}")
    return problems


def _index(index: HardPairIndex, embedded: EmbeddedRows, targets: np.ndarray) -> Iterator[tuple[str, list[str]]]:
    form = check_form(index, embedded.usable)
    yield f"form of {len(index):,} rows by {index.depth} hard pairs", form
    if form:
        return
    try:
        pairs = embedded.pairs()
    except HelipError as error:  # an embedding that is NaN or zero
        yield "rows by brute force in float64", [str(error).rstrip(".")]
        return
    sampled = check_sample(index, pairs, targets)
    backend, problems = index.meta["search"]["backend"], sampled.problems
    least = SearchSettings(**index.meta["settings"]).min_recall
    if backend == "approximate" and sampled.recall < least - 3 * sampled.error:
        problems = [*problems, f"the recall of the sample is {sampled.recall:.4f}, below search.min_recall={least}"]
    recall = "" if backend == "exact" else f" ({backend}: recall {sampled.recall:.4f} +- {sampled.error:.4f})"
    yield f"{sampled.rows:,} rows by brute force in float64{recall}", problems


def _checkpoint_chain(path: Path, rows: Rows, index: HardPairIndex) -> list[str]:
    fixed: Any = read_checkpoint(path).get(FIXED_KEY)
    if not isinstance(fixed, dict):
        return [f"{path} does not say what it was trained on: it is no checkpoint of train.py"]
    sides = {"dataset": ("shards", rows.fingerprint), "hard_pairs": ("hard pairs", origin(index))}
    return [
        f"{path} was trained on other {what} ({str(fixed.get(name))[:8]}) than these ({ours[:8]}): verify with the "
        "settings of that run, its config.json names them"
        for name, (what, ours) in sides.items()
        if fixed.get(name) != ours
    ]
