"""The log in the run folder has the lines and tables of the screen, and numbers of the steps."""

import re

from helip.artifacts.atomic import read_json
from tests.programs.conftest import World


def test_the_log_holds_the_screen_and_a_line_a_logged_step(world: World) -> None:
    result = world.run("train", "helip=random", "train.max_steps=4", "train.log_every=2", "train.evaluate=end")
    assert result.status == 0, result.err
    log = (result.folder / "train.log").read_text()
    steps = re.findall(r"step (\d)/4: loss \d+\.\d{4}, lr \d\.\d\de-\d\d, [\d,]+ samples/s, waits for data \d+%", log)
    assert steps == ["2", "4"]
    for line in ("max_steps=4", "val/i2t_recall@1", "run folder:"):  # what is planned, the table, where it is
        assert line in log and line in result.out
    again = world.run("train", "helip=random", "train.max_steps=4", "train.log_every=3", again=result.folder)
    assert again.status == 0 and (result.folder / "train.log").read_text().startswith(log)  # it is appended to


def test_mining_and_evaluation_keep_theirs(world: World) -> None:
    for name, words in (("mine", "report: "), ("evaluate", "results: ")):
        result = world.run(name)
        assert result.status == 0, result.err
        assert words in (result.folder / f"{name}.log").read_text()


def test_a_run_is_evaluated_on_its_own_data(world: World) -> None:
    """Without a word about data or model; what is named on the command line stays."""
    trained = world.run("train", "helip=random", "train.max_steps=1", "train.evaluate=end")
    assert trained.status == 0, trained.err
    for checkpoint in (trained.folder, trained.folder / "final.pt", trained.folder / "checkpoints"):
        result = world.run("evaluate", f"checkpoint={checkpoint}", "data.workers=0", data=False)
        if checkpoint.name == "checkpoints":
            assert result.status == 1  # neither a run nor a file
            continue
        assert result.status == 0, result.err
        assert "measured: val, with dataset folder" in result.out
        (metrics,) = read_json(result.folder / "results.json")["metrics"].values()
        assert metrics == read_json(trained.folder / "results.json")["metrics"]["after"]
    named = "dataset.evaluators=[{kind: retrieval, part: val, name: own, captions: captions}]"
    result = world.run("evaluate", f"checkpoint={trained.folder}", named, "data.workers=0", data=False)
    assert result.status == 0 and "measured: own, with dataset folder" in result.out, result.err
    other = world.run("evaluate", f"checkpoint={trained.folder}", "dataset=none", "data.workers=0", data=False)
    assert "measured: nothing, with dataset none" in other.out
