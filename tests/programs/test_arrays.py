"""mine.py dataset=none encoders=precomputed: bare arrays, and stricter rules for an index of them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.hard_pairs import HardPairIndex
from helip.mining.reference import hard_pairs
from tests.programs.conftest import World, call
from tests.programs.test_mining import indices


def arrays(folder: Path, **changes: np.ndarray) -> list[str]:
    """Overrides for bare arrays: float16, not normalised."""
    rng = np.random.default_rng(0)
    values = {"image": 3 * rng.normal(size=(60, 8)) + 1, "text": rng.normal(size=(60, 5)) + 1} | changes
    for name, value in values.items():
        np.save(folder / f"{name}.npy", value.astype(np.float16) if value.dtype == np.float64 else value)
    sides = [f"encoders.{name}={folder}/{name}.npy" for name in values]
    return ["dataset=none", "encoders=precomputed", "helip.topk=5", *sides]


def test_precomputed_arrays_are_read_in_place(fresh: World, tmp_path: Path) -> None:
    overrides = arrays(tmp_path)
    for score in ("joint", "image", "text"):
        folder = tmp_path / score
        result = fresh.run("mine", *overrides, f"paths.index={folder}", f"helip.score={score}", data=False)
        assert result.status == 0, result.err
        image, text = (np.load(tmp_path / f"{name}.npy") for name in ("image", "text"))
        rows, scores, _, _ = hard_pairs(image, text, 59, score)
        index = HardPairIndex.load(folder)
        assert (np.asarray(index.rows) == rows).all() and np.allclose(index.scores, scores, atol=1e-6)
        assert "contact sheet" not in result.out


def test_changed_arrays_are_other_hard_pairs(fresh: World, tmp_path: Path) -> None:
    assert fresh.run("mine", *arrays(tmp_path), data=False).status == 0
    rng = np.random.default_rng(1)
    assert fresh.run("mine", *arrays(tmp_path, image=rng.normal(size=(60, 8))), data=False).status == 0
    assert len(indices(fresh, "none")) == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": np.where(np.arange(480).reshape(60, 8) == 95, np.nan, 1.0)}, "image embedding of row 11 holds NaN"),
        ({"text": np.arange(60.0)[:, None] * np.ones(3)}, "text embedding of row 0 is zero"),
        ({"text": np.ones((59, 5))}, "has 60 rows, .*text.npy has 59: they must be the same pairs"),
        ({"image": np.ones(60)}, r"must hold floats of shape \(N, d\)"),
        ({"image": np.ones((60, 8), np.int32)}, r"must hold floats of shape \(N, d\)"),
    ],
)
def test_arrays_that_cannot_be_mined(fresh: World, tmp_path: Path, changes: dict, sentence: str) -> None:
    result = fresh.run("mine", *arrays(tmp_path, **changes), data=False)
    assert result.status == 1 and len(result.errors) == 1
    assert re.search(sentence, result.errors[0])


def test_files_that_are_no_arrays(fresh: World, tmp_path: Path) -> None:
    overrides = arrays(tmp_path)
    (tmp_path / "image.npy").write_text("no array")
    result = fresh.run("mine", *overrides, data=False)
    assert result.status == 1 and "image.npy cannot be read as a .npy file" in result.errors[0]
    (tmp_path / "image.npy").unlink()
    result = fresh.run("mine", *overrides, data=False)
    assert result.status == 1 and "there are no embeddings at" in result.errors[0]


def test_arrays_beside_shards_must_have_their_rows(fresh: World, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = arrays(tmp_path, image=rng.normal(size=(40, 8)), text=rng.normal(size=(40, 5)))[1:]
    result = fresh.run("mine", *good)
    assert result.status == 0 and "contact sheet" in result.out
    result = fresh.run("mine", *arrays(tmp_path)[1:])
    assert result.status == 1 and "encoders.image has 60 rows, but dataset folder has 40" in result.errors[0]


def test_stricter_rules_reuse_an_index_and_looser_ones_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    base = rng.standard_normal((40, 12))
    for name in ("image", "text"):
        np.save(tmp_path / f"{name}.npy", np.repeat(base, 3, 0) + 0.3 * rng.standard_normal((120, 12)))
    arrays = ["dataset=none", "encoders=precomputed", "helip.topk=2", "search.depth=4", f"paths.artifacts={tmp_path}/a"]
    arrays += [f"encoders.{name}={tmp_path}/{name}.npy" for name in ("image", "text")]
    stricter = [*arrays, "helip.near_duplicate=0.9"]
    assert call("mine", tmp_path, *arrays, f"paths.index={tmp_path}/loose").status == 0
    reused = call("mine", tmp_path, *stricter, f"paths.index={tmp_path}/reused", f"reuse={tmp_path}/loose")
    assert reused.status == 0 and "rows ran short under the stricter rules and were searched again" in reused.out
    assert call("mine", tmp_path, *stricter, f"paths.index={tmp_path}/fresh").status == 0
    for name in ("rows", "scores", "scores_image", "scores_text"):
        files = [(tmp_path / folder / f"{name}.npy").read_bytes() for folder in ("reused", "fresh", "loose")]
        assert files[0] == files[1] != files[2]
    looser = call("mine", tmp_path, *arrays, "helip.near_duplicate=0.99", f"reuse={tmp_path}/loose")
    assert looser.status == 1 and "looser than the index" in looser.errors[0]
    meta = json.loads((tmp_path / "loose/meta.json").read_text())
    (tmp_path / "loose/meta.json").write_text(json.dumps(meta | {"embedded": 119}))
    fewer = call("mine", tmp_path, *stricter, f"paths.index={tmp_path}/fewer", f"reuse={tmp_path}/loose")
    assert fewer.status == 1 and "was mined on 119 embedded rows, 120 are now" in fewer.errors[0]
    other = call("mine", tmp_path, *stricter, f"encoders.image={tmp_path}/text.npy", f"reuse={tmp_path}/loose")
    assert other.status == 1 and "mined on other shards or embeddings" in other.errors[0]
