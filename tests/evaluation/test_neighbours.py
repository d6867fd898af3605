"""Retrieval among neighbours, with embeddings written by hand."""

import numpy as np
import pytest

from helip.errors import HelipError
from helip.evaluation.neighbours import gallery_ranks, neighbour_positions
from helip.evaluation.suite import build_evaluators, evaluate_all

FIELDS = {
    "key": ["a", "b", "c", "d"],
    "neighbours": ["b c", "a elsewhere", "", "a b c"],
    "nothing": ["", "", "", ""],
}


class Toy:
    """Four rows in two dimensions."""

    transform = device = texts = classifier = captions = images = None

    def part(self, part):
        image = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]])
        text = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        return image, text, np.arange(10, 14)

    def fields(self, rows, field):
        return [FIELDS[field][row - 10] for row in rows]


def test_by_hand() -> None:
    """i2t: a ties with b's text (2nd); b with a's (2nd); c has no neighbours; d (own 0.6): a and b 0.8, c ties (4th).

    t2i: a's text before b's image (1st); b's text finds a's image (2nd); d's text (own 0.6): b 0.8, c 1.0 (3rd).
    """
    found = evaluate_all(build_evaluators([{"kind": "neighbours", "part": "val", "name": "near"}]), Toy())  # type: ignore[arg-type]
    assert found == pytest.approx(
        {
            "near/i2t_recall@1": 0.0,
            "near/i2t_recall@5": 1.0,
            "near/i2t_mean_rank": 8 / 3,
            "near/i2t_median_rank": 2.0,
            "near/t2i_recall@1": 1 / 3,
            "near/t2i_recall@5": 1.0,
            "near/t2i_mean_rank": 2.0,
            "near/t2i_median_rank": 2.0,
        }
    )


def test_positions_of_named_rows() -> None:
    near = neighbour_positions(FIELDS["key"], FIELDS["neighbours"])
    assert near.tolist() == [[1, 2, -1], [0, -1, -1], [-1, -1, -1], [0, 1, 2]]
    assert neighbour_positions(["", "a"], ["", ""]).shape == (2, 0)


def test_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(30, 8)), rng.normal(size=(30, 8))
    near = np.stack([np.setdiff1d(rng.permutation(30), [row])[:6] for row in range(30)])
    near[rng.random(near.shape) < 0.2] = -1
    queries[3] = np.nan
    expected = [
        1 + sum(not (queries[i] @ items[j] < queries[i] @ items[i]) for j in near[i] if j >= 0) for i in range(30)
    ]
    assert gallery_ranks(queries, items, near).tolist() == expected


def test_no_neighbours_at_all() -> None:
    (evaluator,) = build_evaluators([{"kind": "neighbours", "part": "val", "field": "nothing"}])
    assert evaluator.measured_on == "val"
    with pytest.raises(HelipError, match="evaluator val: the field 'nothing' names no row of part val by its 'key'"):
        evaluator.run(Toy())  # type: ignore[arg-type]
