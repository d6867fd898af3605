import csv

import pytest
import torch

from helip.artifacts.metrics_file import read_lines
from helip.training.metrics_log import MetricsLog
from helip.training.resume_guard import OURS
from helip.training.run_files import checkpoints_in, run_of, set_aside


def fill(run, *names):
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        step = int("".join(filter(str.isdigit, name)) or 3)
        torch.save({key: {} for key in OURS} | {"global_step": step}, run / name)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_new_training_moves_all_that_an_earlier_one_left(tmp_path):
    assert set_aside(tmp_path / "new", None) is None
    left = ["checkpoints/best.ckpt", "checkpoints/step-000002.ckpt", "final.pt", "metrics.csv"]
    for number in (1, 2):
        fill(tmp_path, *left, "config.json")
        assert set_aside(tmp_path, None) == tmp_path / f"earlier-{number}"
        moved = ["best.ckpt", "final.pt", "metrics.csv", "step-000002.ckpt"]
        assert files(tmp_path / f"earlier-{number}") == moved
    assert files(tmp_path)[0] == "config.json" and not checkpoints_in(tmp_path / "checkpoints")


def test_a_training_that_goes_on_keeps_its_own(tmp_path):
    own = [f"checkpoints/step-00000{step}.ckpt" for step in (2, 4, 6)]
    fill(tmp_path, *own, "checkpoints/step-000004-mine.ckpt", "checkpoints/best.ckpt", "metrics.csv")
    assert set_aside(tmp_path, tmp_path / own[2]) is None
    assert set_aside(tmp_path, tmp_path / "checkpoints" / ".." / own[1]) == tmp_path / "earlier-1"
    assert files(tmp_path / "earlier-1") == ["step-000006.ckpt"]
    set_aside(tmp_path, tmp_path / "checkpoints" / "best.ckpt")  # of step 3
    assert files(tmp_path / "earlier-2") == ["step-000004.ckpt"]
    assert "checkpoints/step-000004-mine.ckpt" in files(tmp_path)  # a copy by the user is left alone
    fill(tmp_path / "other", own[0])
    set_aside(tmp_path, tmp_path / "other" / own[0])
    assert files(tmp_path / "earlier-3") == ["best.ckpt", "metrics.csv", "step-000002.ckpt"]


def lines(run):
    with open(run / "metrics.csv") as file:
        return [(int(line["step"]), line["train/loss"], line.get("val/recall")) for line in csv.DictReader(file)]


def test_the_log_goes_on(tmp_path):
    """Resumed after step 2: the lines 0 and 1 and an evaluation stay, and later lines are written again."""
    first = MetricsLog(tmp_path)
    for step in range(4):
        first.log_metrics({"train/loss": step / 10}, step)
    first.log_metrics({"val/recall": 0.5}, 2)
    assert len(lines(tmp_path)) == 5  # on disk at once
    for kept in (1, 2):
        again = MetricsLog(tmp_path)
        again.go_on(2, tmp_path)
        again.log_metrics({"train/loss": 0.7, "train/lr": 1.0}, 2)
        assert lines(tmp_path) == [(0, "0.0", ""), (1, "0.1", ""), (2, "", "0.5"), (2, "0.7", "")], kept
    assert files(tmp_path) == ["metrics.csv"]
    MetricsLog(tmp_path / "new").go_on(2, tmp_path / "gone")
    assert files(tmp_path) == ["metrics.csv"]
    late = MetricsLog(tmp_path)
    late.go_on(0, tmp_path)  # all lines come after the checkpoint
    late.log_metrics({"train/loss": 0.9}, 0)
    assert lines(tmp_path) == [(0, "0.9", None)]


def test_the_log_goes_on_in_another_folder(tmp_path):
    """From a checkpoint in checkpoints/, or one that was set aside; the earlier run keeps its file."""
    fill(tmp_path / "old", "checkpoints/step-000002.ckpt", "final.pt")
    first = MetricsLog(tmp_path / "old")
    for step in range(4):
        first.log_metrics({"train/loss": step / 10}, step)
    before, checkpoint = lines(tmp_path / "old"), tmp_path / "old" / "checkpoints" / "step-000002.ckpt"
    MetricsLog(tmp_path / "new").go_on(2, run_of(checkpoint))
    assert lines(tmp_path / "new") == before[:2] and lines(tmp_path / "old") == before
    aside = set_aside(tmp_path / "old", None)
    assert aside is not None
    MetricsLog(tmp_path / "old").go_on(2, run_of(aside / checkpoint.name))
    assert lines(tmp_path / "old") == before[:2] and lines(aside) == before


def test_half_a_line_at_the_end_is_no_line(tmp_path):
    """A kill or a full disk may cut a line, and its last number would be read as a smaller one."""
    log = MetricsLog(tmp_path)
    for step in range(3):
        log.log_metrics({"train/loss": 1.0625}, step)
    file = tmp_path / "metrics.csv"
    whole = file.read_text()
    for cut in range(1, len("1.0625,2\n")):
        file.write_text(whole[:-cut])
        assert [line["step"] for line in read_lines(file)] == ["0", "1"], cut
        again = MetricsLog(tmp_path)
        again.go_on(3, tmp_path)
        again.log_metrics({"train/loss": 1.0625}, 2)
        assert file.read_text() == whole, cut
    file.write_text(whole[:-1])
    MetricsLog(tmp_path).log_metrics({"train/loss": 1.0625}, 2)  # a log that continues without go_on
    assert file.read_text() == whole


def test_a_new_column_keeps_the_lines(tmp_path, monkeypatch):
    """If the program is killed while it rewrites the file, the old file stays; missing values are empty."""
    log = MetricsLog(tmp_path)
    log.log_metrics({"train/loss": torch.tensor(0.5)}, 0)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("os.replace", interrupted)
        log.log_metrics({"val/recall": 0.25}, 1)
    assert lines(tmp_path) == [(0, "0.5", None)]
    log.log_metrics({"a name, with a comma": 1.0, "val/recall": 0.25}, 1)
    log.log_metrics({"train/loss": 0.25}, 1)
    assert lines(tmp_path) == [(0, "0.5", ""), (1, "", "0.25"), (1, "0.25", "")]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == '"a name, with a comma",step,train/loss,val/recall'
    assert files(tmp_path) == ["metrics.csv"]


def interrupted(*_):
    raise KeyboardInterrupt
