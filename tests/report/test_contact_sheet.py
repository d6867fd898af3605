"""The contact sheet: its targets, the places of pictures, and difficult captions."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report.contact_sheet import DPI, HEAD, LINE, MARGIN, TARGET, contact_sheet, draw_lines, thumbnail
from helip.report.lines import line_of, spread_targets


def make_index(first_scores, pairs=3):
    """An index in which row i has the rows after it as pairs, or none if its first score is 0."""
    first = np.asarray(first_scores, np.float32)
    n = len(first)
    rows = (np.arange(n)[:, None] + 1 + np.arange(pairs)) % n
    rows = np.where(first[:, None] > 0, rows, -1).astype(np.int32)
    scores = np.where(rows >= 0, first[:, None], 0).astype(np.float32)
    return HardPairIndex(rows, scores, scores, scores, {})


def test_targets_are_live_and_go_from_the_hardest_to_the_easiest():
    index = make_index([0.0, 0.9, 0.1, 0.5, 0.8, 0.0, 0.2, 0.6])
    # Live rows by score: 1 (.9) 4 (.8) | 7 (.6) 3 (.5) | 6 (.2) 2 (.1): one of each slice.
    for seed in range(10):
        a, b, c = spread_targets(index, 3, seed)
        assert a in (1, 4) and b in (7, 3) and c in (6, 2)
    assert {int(spread_targets(index, 3, seed)[0]) for seed in range(20)} == {1, 4}
    assert spread_targets(index, 3, 5).tolist() == spread_targets(index, 3, 5).tolist()
    assert spread_targets(index, 100).tolist() == [1, 4, 7, 3, 6, 2]  # no more than there are


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(40, 10), (10, 40), (1, 3000)])
def test_thumbnails_of_every_kind_are_square(mode, size):
    assert thumbnail(Image.new(mode, size), 24).shape == (24, 24, 3)


def test_a_thumbnail_is_whole_centred_and_transparency_is_white():
    wide = thumbnail(Image.new("RGB", (40, 20), "red"), 8)  # 8 x 4 in the middle: rows 2 to 5
    assert (wide[2:6] == (255, 0, 0)).all() and (wide[:2] == 255).all() and (wide[6:] == 255).all()
    assert (thumbnail(Image.new("RGBA", (5, 5), (0, 0, 0, 0)), 8) == 255).all()
    assert (thumbnail(None, 8) == 255).all()


HELL = [
    "control \0\x07\x1b\ud800 characters",
    "math $\\frac{1}{2$ and _sub^super",
    "שלום עולם مرحبا بالعالم",
    "日本語のキャプション 🧑‍🚒👩🏽‍🚒 ሰላም",
    "w" * 10_000,
    "",
    "\u202eright to left override",
    "a\u0301\u0302\u0303" * 200,
]


def test_any_caption_is_drawn_without_a_warning(tmp_path):
    index = make_index(np.linspace(0.9, 0.1, len(HELL)), pairs=7)
    index = replace(index, scores_image=index.scores_image * 3 - 1.5)  # outside 0..1 must not leave its bar
    colors = ["red", "green", "blue", "black", "orange", "grey", "brown", "pink"]

    def image(row):
        return None if row == 3 else Image.new("RGB", (30 + row, 40), colors[row])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = contact_sheet(tmp_path / "deep" / "sheet.png", index, image, HELL.__getitem__, subtitle=HELL[2])
    sheet = np.asarray(Image.open(path).convert("RGB"))
    scale = DPI / 100
    assert sheet.shape[0] == (HEAD + len(HELL) * LINE) * scale
    # The middle of the first target's picture is its colour (row 0 has the highest score); the margins are empty.
    y, x = int((HEAD + TARGET / 2) * scale), int((MARGIN + TARGET / 2) * scale)
    assert sheet[y, x].tolist() == [255, 0, 0]
    edge = int(MARGIN / 2 * scale)
    assert all((strip == 255).all() for strip in (sheet[:20], sheet[-20:], sheet[:, :edge], sheet[:, -edge:]))
    assert [p.name for p in path.parent.iterdir()] == ["sheet.png"]


def test_given_targets_with_few_or_no_pairs(tmp_path):
    index = make_index([0.5, 0.0, 0.4], pairs=2)
    index.rows[2, 1] = -1
    lines = [line_of(index, row, range(2)) for row in (1, 2)]
    path = draw_lines(tmp_path / "s.png", lines, lambda row: None, str, title="", subtitle="", pairs=2)
    with Image.open(path) as sheet:
        assert sheet.height == (HEAD + 2 * LINE) * DPI / 100


def test_nothing_mined_is_said():
    with pytest.raises(HelipError, match="min_similarity"):
        contact_sheet(Path("unused.png"), make_index([0.0, 0.0]), lambda row: None, str)
