"""Arrays of .npy and .npz files are mapped or read, and nothing is ever unpickled."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from helip.embedding.arrays import open_floats
from helip.errors import HelipError

VALUES = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float16)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_stored_npz_is_mapped(tmp_path: Path, order) -> None:
    np.savez(tmp_path / "all.npz", text=VALUES.astype(np.float32), image=np.asarray(VALUES, order=order))
    found = open_floats(tmp_path / "all.npz", "image")
    assert isinstance(found, np.memmap) and found.dtype == np.float16
    assert (np.asarray(found) == VALUES).all()
    assert open_floats(tmp_path / "all.npz:text", "image").dtype == np.float32
    assert (open_floats(tmp_path / "all.npz", "text") == VALUES).all()


def test_a_compressed_npz_is_read_and_a_lone_array_needs_no_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "one.npz", vectors=VALUES)
    assert (open_floats(tmp_path / "one.npz", "text") == VALUES).all()


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    bombs = np.array([[Bomb()]], object)
    np.save(tmp_path / "bomb.npy", bombs, allow_pickle=True)
    np.savez(tmp_path / "stored.npz", image=bombs)
    np.savez_compressed(tmp_path / "packed.npz", image=bombs)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.npy", "stored.npz", "packed.npz", "plain.npy"):
        with pytest.raises(HelipError, match=rf"{name} cannot be read as a \.np[yz] file"):
            open_floats(tmp_path / name, "image")


@pytest.mark.parametrize("keep", [0, 1, 30, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    np.savez(tmp_path / "whole.npz", image=VALUES)
    raw = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(raw[:keep])
    with pytest.raises(HelipError, match=r"cut\.npz cannot be read"):
        open_floats(tmp_path / "cut.npz", "image")


def test_names_that_are_not_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES)
    with pytest.raises(HelipError, match=r"holds a, b: name one of them, encoders\.image='.*two\.npz:NAME'"):
        open_floats(tmp_path / "two.npz", "image")
    with pytest.raises(HelipError, match="holds a, b"):
        open_floats(tmp_path / "two.npz:c", "image")
    with pytest.raises(HelipError, match="there are no embeddings at"):
        open_floats(tmp_path / "none.npz:c", "image")
    np.savez(tmp_path / "flat.npz", image=VALUES[0])
    with pytest.raises(HelipError, match=r"floats of shape \(N, d\)"):
        open_floats(tmp_path / "flat.npz", "image")
