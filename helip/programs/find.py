"""Find the hard pairs that fit a request, or else the nearest index."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import read_json
from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import HardPairIndex
from helip.embedding.ensure import unreadable_rows
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.mining.request import CONTENT, EMBEDDED, MiningRequest, Rows
from helip.typed import flat

WITHOUT = {"distinct": False}  # settings that an index of an older version does not record


def find_hard_pairs(request: MiningRequest, rows: Rows, any_precision: bool = False) -> HardPairIndex | None:
    """The index with these settings on these shards, of any depth; None if there is none for the rows embedded now.

    Args:
        any_precision: accept embeddings of another precision, because a training may have another than mine.py.

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
    if "imported" in found.meta:  # by helip convert, without settings
        if found.depth < request.topk:
            depth = found.depth
            raise HelipError(f"the imported hard pairs in {folder} are {depth} a row: set helip.topk={depth} or less")
        return found
    settings = [request.settings(), WITHOUT | found.meta.get("request", {})]
    if any_precision:
        settings = [one | {"embedding": one.get("embedding", {}) | {"precision": None}} for one in settings]
    if differing := _differing(*settings):
        raise HelipError(f"the hard pairs in {folder} were mined with other settings: {', '.join(differing)}")
    return None if _other_rows(request, rows, found) else found


def _other_rows(request: MiningRequest, rows: Rows, found: HardPairIndex) -> bool:
    """Whether rows were repaired or replaced since the mining.

    False if that is unknown: an index of an older version, or no store of embeddings.
    """
    if rows.index is None or isinstance(request.embedding, Precomputed) or EMBEDDED not in found.meta:
        return False
    folder = request.embedding_folder(rows.index)
    unreadable = unreadable_rows(folder, rows.wanted)
    if unreadable is None:
        return False
    if CONTENT in found.meta and found.meta[CONTENT] != EmbeddingStore(folder).content_digest(rows.wanted):
        return True
    return found.meta[EMBEDDED] != rows.usable - len(unreadable)


def nothing_fits(request: MiningRequest, rows: Rows, limit: int) -> str:
    """The message with the nearest index, the settings that differ, and the command that mines."""
    sentence = f"no hard pairs fit these settings, and {rows.usable:,} rows are more than mine.auto_limit={limit:,}"
    candidates = []
    own = request.settings() | {"fingerprint": rows.fingerprint}
    for path in sorted((request.artifacts / request.dataset.name / "hard_pairs").glob("*/meta.json")):
        if meta := _meta(path):
            theirs = WITHOUT | meta.get("request", {}) | {"fingerprint": meta.get("fingerprint")}
            candidates.append((path.parent, _differing(own, theirs)))
    if candidates:
        folder, differing = min(candidates, key=lambda candidate: len(candidate[1]))
        sentence += f"; the nearest index is {folder}, which differs in {', '.join(differing) or 'its depth'}"
    return f"{sentence}: run mine.py with the same overrides first (it prints the estimated time)"


def _meta(path: Path) -> dict[str, Any]:
    """meta.json of an index; {} if it is damaged."""
    with suppress(OSError, ValueError):
        return meta if isinstance(meta := read_json(path), dict) else {}
    return {}


def _differing(own: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Settings that differ, each with both values."""
    mine, theirs = ({name: json.dumps(value) for name, value in flat(one).items()} for one in (own, other))
    return [
        f"{name} ({theirs.get(name)} there, {mine.get(name)} here)"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]
