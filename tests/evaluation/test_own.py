"""A new evaluator needs only a class and a line of configuration."""

import json

from tests.programs.conftest import World, fresh, make_world, model_weights, shards

__all__ = ["fresh", "make_world", "model_weights", "shards"]


def test_an_evaluator_from_outside_runs(fresh: World) -> None:
    lines = "{_target_: tests.evaluation.own.Alignment, part: val, floor: -1.1, name: own}"
    result = fresh.run("evaluate", f"dataset.evaluators=[{lines}]")
    assert result.status == 0, result.err
    metrics = json.loads((result.folder / "results.json").read_text())["metrics"]
    assert [one["own/aligned"] for one in metrics.values()] == [1.0]


def test_what_is_no_evaluator_or_no_class_is_refused(fresh: World) -> None:
    for target, words in (
        ("tests.evaluation.own.Stranger", "must derive from helip.evaluation.embed.Evaluator"),
        ("tests.evaluation.own.Missing", "tests.evaluation.own.Missing"),
    ):
        result = fresh.run("evaluate", f"dataset.evaluators=[{{_target_: {target}, name: x}}]")
        assert result.status == 1 and len(result.errors) == 1 and words in result.errors[0], result.err
