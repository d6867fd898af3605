"""The index format: what is saved is what is loaded; a header that changed is refused or means the same."""

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helip.artifacts.hard_pairs import ARRAYS, HardPairIndex
from helip.errors import HelipError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make(seed: int, rows: int, depth: int) -> HardPairIndex:
    rng = np.random.default_rng(seed)
    found = rng.integers(-1, rows, (rows, depth)).astype(np.int32)
    scores = [rng.random((rows, depth), np.float32) for _ in range(3)]
    return HardPairIndex(found, *scores, meta={"fingerprint": str(seed), "settings": {"seed": seed}})


@QUICK
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 7))
def test_round_trip(tmp_path: Path, seed: int, rows: int, depth: int) -> None:
    made = make(seed, rows, depth)
    made.save(tmp_path / "index", overwrite=True)
    read = HardPairIndex.load(tmp_path / "index")
    assert all(np.array_equal(getattr(made, name), getattr(read, name)) for name in ARRAYS)
    assert made.meta.items() <= read.meta.items() and read.depth == depth and len(read) == rows


@QUICK
@given(st.sampled_from(list(ARRAYS)), st.integers(0, 127), st.integers(0, 255))
def test_a_changed_header_is_refused_or_means_the_same(tmp_path: Path, name: str, place: int, value: int) -> None:
    made = make(0, 5, 3)
    made.save(tmp_path / "index", overwrite=True)
    path = tmp_path / "index" / f"{name}.npy"
    data = bytearray(path.read_bytes())
    data[place] = value
    path.write_bytes(data)
    try:
        read = HardPairIndex.load(tmp_path / "index")
    except HelipError:
        return
    assert np.array_equal(getattr(made, name), getattr(read, name))
