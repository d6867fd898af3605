"""The index folder: it is read as it was written, and a damaged one is refused."""

import json
import tracemalloc

import numpy as np
import pytest

from helip.artifacts.hard_pairs import HardPairIndex, live_counts
from helip.errors import HelipError


def make(n=6, k=4):
    rows = np.arange(n * k, dtype=np.int32).reshape(n, k) % n
    rows[2, 3], rows[4] = -1, -1
    scores = np.where(rows >= 0, 0.5, 0).astype(np.float32)
    return HardPairIndex(
        rows, scores, scores + 0.1, scores + 0.2, {"fingerprint": "ab", "settings": {"score": "joint"}}
    )


def test_round_trip_is_memory_mapped(tmp_path):
    made = make()
    made.save(tmp_path / "index")
    read = HardPairIndex.load(tmp_path / "index")
    for name in ("rows", "scores", "scores_image", "scores_text"):
        assert np.array_equal(getattr(made, name), getattr(read, name))
        assert isinstance(getattr(read, name), np.memmap)
    assert read.meta["fingerprint"] == "ab" and read.meta["count"] == 6 and len(read) == 6
    assert read.counts().tolist() == [4, 4, 3, 4, 0, 4]


def test_counting_takes_blocks():
    """One (N, K) array of bool would take K more bytes per row."""
    count = 600_000
    rows = np.broadcast_to(np.where(np.arange(50) < 20, 3, -1).astype(np.int32), (count, 50))
    valid = np.arange(count) != 3
    tracemalloc.start()
    try:
        counts = HardPairIndex(rows, rows, rows, rows, {}).counts()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts.tolist() == [20] * count and counts.dtype == np.int64
    assert peak < 30 * count
    assert not live_counts(rows, valid).any() and (live_counts(rows, ~valid) == counts).all()


def test_topk_takes_the_first_columns():
    index = make().topk(2)
    assert np.array_equal(index.rows, make().rows[:, :2]) and index.depth == 2
    with pytest.raises(HelipError, match=r"search\.depth=9"):
        make().topk(9)
    with pytest.raises(HelipError, match=r"topk is .*helip.topk to 1 or more"):
        make().topk(0)


def test_saving_again_replaces_the_folder(tmp_path):
    make().save(tmp_path / "index")
    make(n=5).save(tmp_path / "index", overwrite=True)
    assert len(HardPairIndex.load(tmp_path / "index")) == 5
    (tmp_path / "index" / "thesis.txt").touch()
    with pytest.raises(HelipError, match=r"holds thesis\.txt"):
        make(n=6).save(tmp_path / "index", overwrite=True)
    assert len(HardPairIndex.load(tmp_path / "index")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def broken_meta(folder, **change):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | change))


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda f: (f / "meta.json").unlink(), "no hard-pair index"),
        (lambda f: (f / "meta.json").write_text("{"), "cannot be read"),
        (lambda f: broken_meta(f, format=99), "format 99"),
        (lambda f: broken_meta(f, complete=False), "not complete"),
        (lambda f: broken_meta(f, count=7), r"meta.json says int32 \(7, 4\)"),
        (lambda f: (f / "rows.npy").unlink(), "cannot be read"),
        (lambda f: (f / "scores.npy").write_bytes(b"no numpy"), "cannot be read"),
        (lambda f: np.save(f / "rows.npy", np.zeros((6, 4), np.int64)), "holds int64"),
    ],
)
def test_a_broken_folder_is_refused_in_one_sentence(tmp_path, breakage, words):
    make().save(tmp_path / "index")
    breakage(tmp_path / "index")
    with pytest.raises(HelipError, match=words):
        HardPairIndex.load(tmp_path / "index")
