"""The search and its masks against a plain sort of all pairs in float64."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helip.mining.miner import mine_hard_pairs
from helip.mining.reference import hard_pairs

LIMITS = st.tuples(st.floats(-0.4, 0.4), st.floats(0.5, 1))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(6, 40),
    score=st.sampled_from(["joint", "image", "text"]),
    limits=st.tuples(LIMITS, LIMITS),
    skip=st.integers(0, 3),
    holes=st.floats(0, 0.5),
)
def test_every_mask_is_that_of_brute_force(seed, rows, score, limits, skip, holes) -> None:
    rng = np.random.default_rng(seed)
    image, text = (rng.normal(size=(rows, width)).astype(np.float32) for width in (5, 3))
    valid = rng.random(rows) >= holes
    (low_image, high_image), (low_text, high_text) = limits
    rules = {"near_duplicate": (high_image, high_text), "min_similarity": (low_image, low_text), "skip_first": skip}
    index = mine_hard_pairs(image, text, 4, score, valid=valid, backend="exact", **rules)
    expected, scores, _, _ = hard_pairs(image, text, 4, score, valid=valid, **rules)
    assert (index.rows == expected).all()
    assert np.allclose(index.scores, scores, atol=1e-6)
