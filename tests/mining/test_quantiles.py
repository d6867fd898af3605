"""Quantiles of random pairs, and shares beyond the limits, compared with those of all pairs of a small set."""

import numpy as np

from helip.mining.settings import SearchSettings
from helip.mining.statistics import PAIRS, SHARES, similarity_quantiles
from helip.mining.vectors import open_pairs


def test_quantiles_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    image, text = rng.normal(size=(60, 5)) * 3, rng.normal(size=(60, 3)).astype(np.float16)
    usable = np.arange(60) % 3 > 0
    settings = SearchSettings(near_duplicate=0.8, min_similarity=0.1)
    pairs = open_pairs(image, text, valid=usable)
    for found, array in zip(similarity_quantiles(pairs, settings), (image, text), strict=True):
        unit = array[usable].astype(float) / np.linalg.norm(array[usable].astype(float), axis=1, keepdims=True)
        every = (unit @ unit.T)[~np.eye(usable.sum(), dtype=bool)]
        assert np.allclose(found.values, np.quantile(every, SHARES), atol=0.03)
        assert abs(found.below - (every < 0.1).mean()) < 4 / np.sqrt(PAIRS) and found.low == 0.1
        assert abs(found.above - (every > 0.8).mean()) < 4 / np.sqrt(PAIRS) and found.high == 0.8
        assert len(found.line()) == len(SHARES) + 3


def test_a_row_is_never_paired_with_itself() -> None:
    far = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = similarity_quantiles(open_pairs(far, far), SearchSettings())
    assert all(max(one.values) < 1e-9 and one.above == 0 for one in found)
