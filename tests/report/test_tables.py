"""Tables: numbers, signs and alignment."""

import io

import numpy as np
import pytest
from rich.console import Console

from helip.artifacts.hard_pairs import HardPairIndex
from helip.report import counts, tables
from helip.report.tables import Table, comparison, mining_tables, time_table


def printed(table, **kwargs):
    console = Console(file=io.StringIO(), width=100, **kwargs)
    console.print(table.rich())
    return console.file.getvalue()  # type: ignore[attr-defined]


BEFORE = {"test/t2i_recall@1": 0.126, "test/t2i_median_rank": 30.0, "gone": 0.5}
AFTER = {"test/t2i_recall@1": 0.1305, "test/t2i_median_rank": 26.0, "new": 0.25}


def test_before_after_difference():
    table = comparison({"before": BEFORE, "after": AFTER})
    assert table.headers == ["metric", "before", "after", "difference"]
    assert table.lines == [
        ["test/t2i_recall@1 (%)", "12.60", "13.05", "+0.45"],
        ["test/t2i_median_rank", "30.00", "26.00", "-4.00"],
        ["gone (%)", "50.00", "-", "-"],
        ["new (%)", "-", "25.00", "-"],
    ]
    # A lower rank is better too.
    assert table.styles == {(0, 3): "green", (1, 3): "green"}
    assert comparison({"before": AFTER, "after": BEFORE}).styles == {(0, 3): "red", (1, 3): "red"}
    assert comparison({"before": BEFORE, "after": BEFORE}).styles == {}


def test_one_and_three_columns():
    assert comparison({"model": BEFORE}).headers == ["metric", "model"]
    three = comparison({"a": {"x": 0.1}, "b": {"x": 0.2}, "c": {"x": 0.0}})
    assert three.headers == ["metric", "a", "b", "b - a", "c", "c - a"]
    assert three.lines == [["x (%)", "10.00", "20.00", "+10.00", "0.00", "-10.00"]]


def test_markdown():
    assert Table("T", ["name", "n"], [["a|b", "1"]]).markdown() == "| name | n |\n| --- | ---: |\n| a\\|b | 1 |\n"


def test_numbers_are_right_aligned_and_markup_is_text():
    lines = printed(Table("T [bold]", ["name", "n"], [["[red]x[/red]", "1"], ["y", "1,000"]])).splitlines()
    x, y = next(li for li in lines if "[red]x[/red]" in li), next(li for li in lines if li.strip().startswith("y"))
    assert x.rstrip().endswith("1") and len(x.rstrip()) == len(y.rstrip())
    assert "T [bold]" in lines[0]


def test_colour_only_where_the_terminal_has_it():
    table = comparison({"before": BEFORE, "after": AFTER})
    assert "\x1b[32m" in printed(table, force_terminal=True, color_system="standard", no_color=False)
    assert "\x1b" not in printed(table)


def make_index():
    # Row 0 has both pairs, row 1 one, row 2 none, row 3 is not valid.
    rows = np.array([[1, 2], [0, -1], [-1, -1], [-1, -1]], np.int32)
    scores = np.array([[0.8, 0.4], [0.6, 0], [0, 0], [0, 0]], np.float32)
    return HardPairIndex(rows, scores, scores / 2, scores * 0 + 0.5, {})


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_mining_tables(monkeypatch, rows_at_once):
    monkeypatch.setattr(counts, "SLICE", rows_at_once)
    valid = np.array([True, True, True, False])
    shares = {"min_similarity": 0.25, "group_text": 0.001, "sampled_pairs": 9000}
    removed = {"near_duplicate_image": 3, "min_similarity_text": 2}
    index = make_index()
    index.meta["statistics"] = {"removed_from_first": removed, "removed_share_of_pairs": shares}
    score, rows, rules, all_pairs = mining_tables(index, 2, valid)
    # First pairs .8 and .6; the first two .4 .6 .8. The median of an even number is the lower of the two in the middle.
    assert score.lines[3] == ["joint, first pair", "0.600", "0.600", "0.600", "0.800", "0.800"]
    assert score.lines[4][1:] == ["0.300", "0.300", "0.300", "0.400", "0.400"]
    assert score.lines[0] == ["joint, first 2", "0.400", "0.400", "0.600", "0.800", "0.800"]
    assert rows.lines == [
        ["usable rows", "3", "100.0 %"],
        ["with 2 hard pairs", "1", "33.3 %"],
        ["with fewer than 2", "2", "66.7 %"],
        ["with none", "1", "33.3 %"],
    ]
    # 3 stored pairs and 5 removed ones
    assert rules.lines == [
        ["stored", "3", "37.5 %"],
        ["near duplicate image", "3", "37.5 %"],
        ["min similarity text", "2", "25.0 %"],
    ]
    assert all_pairs.title.endswith("(9,000 sampled)")
    assert all_pairs.lines == [["min similarity", "25.000 %"], ["same caption", "0.100 %"]]
    assert time_table({"index": 1.0, "search": 2.5}).lines == [["index", "1.0"], ["search", "2.5"], ["together", "3.5"]]


def test_quartiles_equal_numpys_on_many_scores():
    scores = np.random.default_rng(0).uniform(-0.2, 0.9, (5000, 4)).astype(np.float32)
    index = HardPairIndex(np.zeros((5000, 4), np.int32), scores, scores, scores, {})
    line = tables.score_table(index, 4).lines[0]
    assert [float(cell) for cell in line[1:]] == pytest.approx(np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]), abs=1.1e-3)


def test_an_empty_index_has_tables_too():
    rows = np.full((3, 1), -1, np.int32)
    index = HardPairIndex(rows, rows * 0.0, rows * 0.0, rows * 0.0, {})
    shortage, _ = mining_tables(index, 1)  # no scores
    assert shortage.lines[-1] == ["with none", "3", "100.0 %"]


def test_with_topk_1_the_first_pair_is_all_there_is():
    assert len(tables.score_table(make_index(), 1).lines) == 3


def test_imported_pairs_have_no_table_of_scores():
    index = make_index()
    lacking = np.full((4, 2), np.nan, np.float32)
    imported = HardPairIndex(index.rows, lacking, lacking, lacking, {})
    assert [table.title for table in mining_tables(imported, 2)] == ["Rows", "What each rule removed"]
