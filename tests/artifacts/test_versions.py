"""The three artefacts refuse an unknown format, and the message names the remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError
from tests.samples import write_shards


def make_shards(folder: Path) -> Path:
    ShardIndex.build(write_shards(folder / "tars", [3])).save(folder / "index")
    return folder / "index" / "shards.json"


def make_embeddings(folder: Path) -> Path:
    EmbeddingStore.create(folder, 3, 4, 4, {})
    return folder / "meta.json"


def make_hard_pairs(folder: Path) -> Path:
    scores = np.zeros((3, 2), np.float32)
    HardPairIndex(np.full((3, 2), -1, np.int32), scores, scores, scores, {}).save(folder / "pairs")
    return folder / "pairs" / "meta.json"


ARTEFACTS = [
    pytest.param(make_shards, ShardIndex.load, "version", 2, "scans the shards again", id="shards"),
    pytest.param(make_embeddings, EmbeddingStore, "version", 1, "mine.py makes new ones", id="embeddings"),
    pytest.param(make_hard_pairs, HardPairIndex.load, "format", 1, "mine again", id="hard pairs"),
]


@pytest.mark.parametrize(("make", "load", "field", "current", "again"), ARTEFACTS)
@pytest.mark.parametrize("version", [3, 0, None, True, "1", [1]])
def test_another_version_is_refused(
    tmp_path: Path,
    make: Callable[[Path], Path],
    load: Callable[[Path], Any],
    field: str,
    current: int,
    again: str,
    version: Any,
) -> None:
    meta = make(tmp_path)
    load(meta.parent)
    content = json.loads(meta.read_text())
    assert content[field] == current
    meta.write_text(json.dumps(content | {field: version}))
    for array in meta.parent.glob("*.npy"):
        array.unlink()  # another format may have other files, so the version is checked first
    with pytest.raises(HelipError, match=f"has format {version!r}, not {current}: ".replace("[", r"\[")) as refused:
        load(meta.parent)
    assert str(meta.parent) in str(refused.value)
    assert ("update" if version == 3 else again) in str(refused.value)


@pytest.mark.parametrize(("make", "load", "field", "current", "again"), ARTEFACTS)
def test_a_description_that_is_no_mapping_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], load: Callable[[Path], Any], field: str, current: int, again: str
) -> None:
    meta = make(tmp_path)
    meta.write_text("[]")
    with pytest.raises(HelipError, match=r"cannot be read|has format None"):
        load(meta.parent)
