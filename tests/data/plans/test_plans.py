"""Partner plans, the placebo of both families, and doses."""

import numpy as np
import pytest

from benchmarks.plans import dose_of_plan
from helip.data.partners import MinedPartners
from helip.data.plans.contract import PARTNER, TARGET, PlanData, dose, planned_step
from helip.data.plans.graph import GraphSettings
from helip.data.plans.partners import PartnersSettings
from helip.data.plans.placebo import Placebo
from helip.errors import HelipError
from tests.data.plans.graphs import data_of, mutual_reference, topics


def test_a_step_of_partners_is_targets_first() -> None:
    lists = topics(60, 6, 5)
    plan = PartnersSettings("joint", topk=4, p=2).bind(data_of(lists, 12))
    for step in range(10):
        rows, roles = planned_step(plan, step)
        assert roles.tolist() == [TARGET] * 4 + [PARTNER] * 8
        assert rows[:4].tolist() == [plan.order[4 * step + index][1] for index in range(4)]
        for index, row in enumerate(rows[:4]):
            assert set(rows[4 + 2 * index : 6 + 2 * index].tolist()) <= set(lists[row, :4].tolist())


def test_random_and_plain_plans_need_no_index() -> None:
    random, plain = PartnersSettings("random").bind(data_of(None, 8)), PartnersSettings("off").bind(data_of(None, 8))
    assert (
        not PartnersSettings("random").mines
        and not PartnersSettings("off").mines
        and PartnersSettings("joint", 5).mines
    )
    rows, roles = planned_step(random, 0)
    assert roles.tolist() == [TARGET] * 4 + [PARTNER] * 4 and random.scattered and not plain.scattered
    assert planned_step(plain, 0)[1].tolist() == [TARGET] * 8
    assert rows[:4].tolist() == planned_step(plain, 0)[0][:4].tolist()  # the same targets
    with pytest.raises(HelipError, match=r"helip\.score=joint needs mined hard pairs"):
        PartnersSettings("joint", 5).bind(data_of(None, 8))


def test_fillers_count_on_from_the_draws() -> None:
    """Three live partners, drawn two at a time: two draws, then the fillers that a row without partners gets."""
    lists = np.array([[1, 2, 3, -1], [0, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 4], [0, 1, 2, 3]], np.int32)
    partners = MinedPartners(lists, np.ones(5, bool), 2, 0, "drop", 1)
    assert [len(partners.draw(0, 7, attempt)) for attempt in range(3)] == [2, 1, 0]
    bare = MinedPartners(np.full((5, 4), -1, np.int32), np.ones(5, bool), 2, 0, "random", 1)
    assert [partners.filler(0, 7, attempt) for attempt in (2, 3, 4)] == [bare.filler(0, 7, a) for a in (0, 1, 2)]


@pytest.mark.parametrize("score", ["random", "off"])
def test_a_placebo_without_an_index_is_refused(score: str) -> None:
    with pytest.raises(HelipError, match=rf"helip\.placebo=true .*helip\.score={score} .*: set helip\.score=joint"):
        PartnersSettings(score, placebo=True)


def test_placebo_permutes_the_valid_rows() -> None:
    lists, valid = topics(60, 6, 5), np.ones(60, bool)
    valid[[3, 40]] = False
    placebo = Placebo(valid, 0)
    rows = placebo.rows(lists)
    assert (placebo.plays != np.arange(60)).sum() > 50 and placebo.plays[[3, 40]].tolist() == [3, 40]
    for row in range(60):
        assert rows[placebo.plays[row]].tolist() == placebo.plays[lists[row]].tolist()
    assert np.array_equal(rows[10:20], np.stack([rows[row] for row in range(10, 20)]))
    assert (placebo.values(lists)[placebo.plays[7]] == lists[7]).all() and len(rows) == 60
    assert (Placebo(valid, 0).plays == placebo.plays).all() and (Placebo(valid, 1).plays != placebo.plays).any()


def test_placebo_partners_are_of_the_permuted_index() -> None:
    lists = topics(60, 6, 5)
    lists[::3, 3:] = -1
    data = data_of(lists, 8)
    played = Placebo(data.valid, 0)
    plan = PartnersSettings("joint", topk=5, placebo=True).bind(data)
    explicit = PartnersSettings("joint", topk=5).bind(data_of(played.rows(lists)[:], 8))
    for step in range(20):
        assert all(
            np.array_equal(*pair) for pair in zip(planned_step(plan, step), planned_step(explicit, step), strict=True)
        )
    assert plan.mined(5).tolist() == np.sort(played.rows(lists)[5]).tolist()


def test_placebo_clusters_are_those_of_the_permuted_index() -> None:
    """Clusters of the same sizes, whose rows are neighbours only by chance."""
    lists = topics(400, 8, 7)
    data = data_of(lists, 16)
    true, false = (GraphSettings(7, 8, placebo=placebo).bind(data) for placebo in (False, True))
    played = Placebo(data.valid, 0)
    near, permuted = (mutual_reference(rows, data.valid) for rows in (lists, played.rows(lists)[:]))

    def inside(plan, neighbours) -> float:
        labels = plan.partition.labels(400)
        return float(np.mean([sum(labels[j] == labels[i] for j in neighbours[i]) for i in range(400)]))

    assert inside(true, near) == inside(false, permuted) == 7
    assert inside(false, near) < 0.5
    assert sorted(row for step in range(25) for row in planned_step(false, step)[0].tolist()) == list(range(400))


def test_dose() -> None:
    assert dose(20, 256, 3232) == pytest.approx(1.578, abs=1e-3)
    assert dose(50, 3360, 2_800_000) == pytest.approx(0.06, abs=1e-3)
    with pytest.raises(HelipError, match="1 rows have no hard pairs"):
        dose(5, 4, 1)


def test_the_dose_of_plain_batches_is_the_expectation() -> None:
    lists = topics(400, 11, 10)
    measured = dose_of_plan(PartnersSettings("off").bind(data_of(lists, 40)), 10)
    assert measured == 0  # they use no index
    plan = GraphSettings(10, 2, placebo=True).bind(data_of(lists, 40))
    plan.lists = lists  # for the true lists, the placebo's batches are random
    assert dose_of_plan(plan, 100) == pytest.approx(dose(10, 40, 400), rel=0.1)


def test_the_dose_of_mined_plans() -> None:
    """Topics of eight: a row meets all seven with the graph; with partners one, and more by chance."""
    lists = topics(400, 8, 7)
    assert dose_of_plan(GraphSettings(7, 8).bind(data_of(lists, 16)), 25) == 7
    partners = dose_of_plan(PartnersSettings("joint", topk=7).bind(data_of(lists, 16)), 50)
    assert 1.1 < partners < 1 + 1.3 * dose(7, 16, 400)


def test_plan_data_is_quiet_by_itself(capsys) -> None:
    assert isinstance(data_of(None, 8), PlanData)
    GraphSettings(7, 8).bind(data_of(topics(80, 8, 7), 16))
    assert capsys.readouterr().out == ""
