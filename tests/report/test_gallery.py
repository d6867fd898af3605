"""The lines of a gallery, compared with plain counts."""

import json

import numpy as np
import pytest
from PIL import Image

from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.report import counts
from helip.report.gallery import gallery, hardest, hubs, read_gallery, sections, suspects, word_set

LIMITS = (0.98, 0.95)


@pytest.fixture(params=[1, 7, 1000])
def index(request, monkeypatch):
    """An index, with slices of different sizes."""
    monkeypatch.setattr(counts, "SLICE", request.param)
    return random_index()


def random_index(n=40, k=5, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.array([rng.permutation([j for j in range(n) if j != i])[:k] for i in range(n)], np.int32)
    rows[3] = -1
    rows[5, 2:] = -1
    live = rows >= 0
    image, text = (np.where(live, rng.uniform(0.3, 0.95, rows.shape), 0).astype(np.float32) for _ in range(2))
    joint = -np.sort(-image * text, axis=1)
    return HardPairIndex(rows, joint, image, text, {})


def test_hardest_first_then_the_spread(index):
    section = hardest(index, 10, 3)
    first = index.scores[:, 0]
    order = sorted(np.flatnonzero(index.rows[:, 0] >= 0).tolist(), key=lambda row: (-first[row], row))
    ranks = [order.index(line.target) + 1 for line in section.lines]
    assert ranks == sorted(ranks) and ranks[0] == 1 and ranks[-1] > 30
    assert [line.note for line in section.lines] == [f"rank {rank} of 39" for rank in ranks]
    line = section.lines[0]
    assert line.partners == index.rows[line.target, :3].tolist()
    assert line.scores[1] == pytest.approx(
        [s[line.target, 1] for s in (index.scores, index.scores_image, index.scores_text)], abs=1e-4
    )


def test_of_a_mutual_pair_one_side_is_enough():
    rows = np.array([[1], [0], [3], [2]], np.int32)
    scores = np.array([[0.9], [0.9], [0.5], [0.5]], np.float32)
    index = HardPairIndex(rows, scores, scores, scores, {})
    assert [line.target for line in hardest(index, 2, 1).lines] == [0, 2]


def test_suspects_are_the_nearest_to_both_limits(index):
    section = suspects(index, LIMITS, lambda row: f"caption {row}", 6, 4)
    distance = np.maximum(LIMITS[0] - index.scores_image, LIMITS[1] - index.scores_text)
    wanted, seen = [], set()
    for row, place in sorted(np.argwhere(index.rows >= 0).tolist(), key=lambda p: distance[p[0], p[1]]):
        pair = {row, int(index.rows[row, place])}
        if not pair & seen:
            wanted.append((row, int(index.rows[row, place])))
            seen |= pair
    assert [(line.target, line.partners[0]) for line in section.lines] == wanted[:6]
    assert "0 of them have the same words" in section.about
    assert all(len(line.marks) == len(line.partners) for line in section.lines)


def test_the_same_words_come_first(index):
    target, other = 11, int(index.rows[11, 4])
    said = {target: "A dog, on GRASS", other: "on grass: a dog!"}
    section = suspects(index, LIMITS, lambda row: said.get(row, f"caption {row}"), 3, 4)
    assert {section.lines[0].target, section.lines[0].partners[0]} == {target, other}
    assert section.lines[0].marks[0] == "same words" and "same words" not in section.lines[1].marks


def test_words():
    assert word_set("A dog, a DOG!") == {"a", "dog"} == word_set("dog a")
    assert word_set("...") == frozenset()


def test_captions_without_words_are_not_the_same(index):
    assert "0 of them" in suspects(index, LIMITS, lambda row: "!!", 3, 4).about


def test_hubs_by_in_degree_with_those_who_chose_them(index):
    section = hubs(index, 5, 4)
    degree = np.bincount(index.rows[index.rows >= 0], minlength=40)
    assert [line.target for line in section.lines] == np.argsort(-degree, kind="stable")[:5].tolist()
    for line in section.lines:
        choosers = {row: index.scores[row, place] for row, place in np.argwhere(index.rows == line.target)}
        best = sorted(choosers, key=lambda row: (-choosers[row], row))[:4]
        assert line.partners == best
        assert line.note == f"chosen {degree[line.target]} times ({degree[line.target] / 39:.1%})"


def test_an_index_without_pairs_has_empty_sections():
    rows = np.full((3, 2), -1, np.int32)
    empty = HardPairIndex(rows, rows * 0.0, rows * 0.0, rows * 0.0, {})
    assert [part.lines for part in sections(empty, LIMITS, str)] == [[], []]  # and none about scores


def test_gallery_is_plain_json_with_each_row_once(tmp_path):
    parts = sections(random_index(), LIMITS, str, 4, 3)
    content = gallery(parts, lambda row: None if row == 0 else Image.new("LA", (30, 300)), lambda row: "x" * 10**6)
    (tmp_path / "g.json").write_text(json.dumps(content))
    assert read_gallery(tmp_path / "g.json") == json.loads(json.dumps(content))
    shown = {row for part in parts for line in part.lines for row in (line.target, *line.partners)}
    assert set(content["captions"]) == set(content["thumbs"]) == {str(row) for row in shown}
    assert max(map(len, content["captions"].values())) == 240
    assert content["thumbs"].get("0") is None and len(json.dumps(content)) < 100_000


def test_other_files_are_no_galleries(tmp_path):
    assert read_gallery(tmp_path / "none.json") is None
    for text in ("[]", "{}", "no json", '{"format": 0}', '{"format": 1}'):
        (tmp_path / "g.json").write_text(text)
        with pytest.raises(HelipError, match=r"mine\.py"):
            read_gallery(tmp_path / "g.json")
