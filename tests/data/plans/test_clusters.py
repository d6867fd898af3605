"""Mutual neighbours and clusters, compared with the definitions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helip.data.plans.clusters import grow_clusters
from helip.data.plans.neighbours import mutual_neighbours
from tests.data.plans.graphs import clusters_reference, mutual_reference, topics


def neighbours(lists: np.ndarray, valid: np.ndarray, **settings) -> list[set[int]]:
    graph = mutual_neighbours(lists, valid, **settings)
    found = [graph.rows[first:last].tolist() for first, last in pairwise(graph.ends)]
    assert found == [sorted(set(rows)) for rows in found]
    return [set(rows) for rows in found]


@st.composite
def lists_and_valid(draw) -> tuple[np.ndarray, np.ndarray]:
    count, m = draw(st.integers(1, 24)), draw(st.integers(1, 8))
    generator = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    lists = generator.integers(-1, count, (count, m)).astype(np.int32)  # with repeats, and rows that list themselves
    return lists, generator.random(count) < draw(st.sampled_from([0.5, 1.0]))


@settings(max_examples=150, deadline=None)
@given(lists_and_valid(), st.integers(1, 40))
def test_mutual_neighbours(given_, entries: int) -> None:
    lists, valid = given_
    assert neighbours(lists, valid, entries=entries) == mutual_reference(lists, valid)


@settings(max_examples=150, deadline=None)
@given(lists_and_valid(), st.integers(2, 9))
def test_growth(given_, size: int) -> None:
    lists, valid = given_
    rows, begins = grow_clusters(mutual_neighbours(lists, valid), valid, size)
    clusters = [rows[first:last].tolist() for first, last in pairwise(begins)]
    assert clusters == clusters_reference(mutual_reference(lists, valid), valid, size)
    assert sorted(rows.tolist()) == np.flatnonzero(valid).tolist()
    assert all(1 <= len(cluster) <= size for cluster in clusters)


def test_blocks_of_lists_change_nothing(monkeypatch) -> None:
    lists, valid = topics(120, 6, 10), np.ones(120, bool)
    whole = mutual_neighbours(lists, valid)
    monkeypatch.setattr("helip.data.plans.neighbours.LINES", 7)
    parts = mutual_neighbours(lists, valid, entries=100)
    assert np.array_equal(whole.rows, parts.rows) and np.array_equal(whole.ends, parts.ends)
    labels = np.arange(120) // 5
    assert parts.inside(labels) == pytest.approx(
        np.mean([sum(labels[j] == labels[i] for j in near) for i, near in enumerate(mutual_reference(lists, valid))])
    )


def test_topics_become_clusters() -> None:
    """Forty topics of five rows that list each other first: every cluster is a topic."""
    lists = topics(200, 5, 4)
    rows, begins = grow_clusters(mutual_neighbours(lists, np.ones(200, bool)), np.ones(200, bool), 5)
    assert np.diff(begins).tolist() == [5] * 40
    for first in begins[:-1]:
        cluster = set(rows[first : first + 5].tolist())
        assert all(set(lists[row].tolist()) | {row} == cluster for row in cluster)
