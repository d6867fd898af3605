"""The run folder keeps what the screen says: lines, tables, and the numbers of the steps."""

import re

from tests.pipeline.conftest import World


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
