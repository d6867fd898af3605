"""Real embeddings: 7,498 photos with one caption each, and 37,490 pairs with five captions for each image.

HELIP_REAL_EMBEDDINGS names a folder with image.npy, text.npy, text_all_captions.npy and image_row_of_caption.npy.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from helip.mining.miner import mine_hard_pairs
from helip.mining.reference import hard_pairs

FOLDER = Path(os.environ.get("HELIP_REAL_EMBEDDINGS", "/nowhere"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (FOLDER / "image.npy").is_file(), reason="HELIP_REAL_EMBEDDINGS is not set"),
]


def load(captions: bool) -> tuple[np.ndarray, np.ndarray]:
    image = np.load(FOLDER / "image.npy", mmap_mode="r")
    if not captions:
        return image, np.load(FOLDER / "text.npy", mmap_mode="r")
    rows = np.load(FOLDER / "image_row_of_caption.npy")
    return image[rows], np.load(FOLDER / "text_all_captions.npy", mmap_mode="r")


def check(index, image, text, targets, **rules):
    plain = hard_pairs(image, text, index.depth, targets=targets, **rules)
    assert np.array_equal(index.rows[targets], plain[0])
    np.testing.assert_allclose(index.scores[targets], plain[1], rtol=0, atol=6e-8)


@pytest.mark.parametrize("score", ["joint", "image", "text"])
def test_all_photos(score):
    image, text = load(captions=False)
    index = mine_hard_pairs(image, text, 50, score, backend="exact")
    check(index, image, text, np.arange(len(image)), score=score)


@pytest.mark.parametrize("score", ["joint", "image", "text"])
def test_ten_thousand_rows_with_shared_images(score):
    image, text = (x[:10_000] for x in load(captions=True))
    index = mine_hard_pairs(image, text, 50, score, backend="exact")
    check(index, image, text, np.arange(10_000), score=score)


@pytest.mark.parametrize("low", [0.0, 0.5])
def test_two_thousand_of_all_captions(low):
    image, text = load(captions=True)
    index = mine_hard_pairs(image, text, 50, min_similarity=low, backend="exact")
    targets = np.random.default_rng(0).choice(len(image), 2000, replace=False)
    check(index, image, text, targets, min_similarity=low)
