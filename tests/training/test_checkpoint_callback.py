import csv
import os
import signal

import pytest
import pytorch_lightning as pl

from helip.training import checkpoint_callback
from helip.training.checkpoint_callback import EXIT_SIGTERM, Checkpoints
from helip.training.metrics_log import MetricsLog
from helip.training.run_files import checkpoints_in, newest_good
from tests.training.tiny import Stream, fit, tiny_module

pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using")


def names(folder):
    return [path.name for path in checkpoints_in(folder)]


def test_the_newest_are_kept_and_the_last_step_is_there(tmp_path):
    fit(tiny_module(tmp_path), tmp_path, 7, callbacks=[Checkpoints(tmp_path / "c", 2)])
    assert names(tmp_path / "c") == ["step-000006.ckpt", "step-000007.ckpt"]


def test_minutes(tmp_path, monkeypatch):
    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls):
            cls.now += 25.0  # about two calls per step
            return cls.now

    monkeypatch.setattr(checkpoint_callback, "time", Clock)
    fit(tiny_module(tmp_path), tmp_path, 5, callbacks=[Checkpoints(tmp_path / "c", 100, every_minutes=1.0, keep=9)])
    assert names(tmp_path / "c") == ["step-000003.ckpt", "step-000005.ckpt"]


class Kill(pl.Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_finishes_the_step_saves_and_leaves(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        fit(tiny_module(tmp_path), tmp_path, 7, callbacks=[Kill(), Checkpoints(tmp_path / "c", 100)])
    assert caught.value.code == EXIT_SIGTERM == 143
    assert names(tmp_path / "c") == ["step-000003.ckpt"]
    assert "stopped after step 3; train.resume=" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def logged(folder):
    with open(folder / "metrics.csv") as file:
        return [int(line["step"]) for line in csv.DictReader(file)]


def test_no_line_of_the_log_is_lost_or_written_twice(tmp_path):
    """Lightning logs a step after the callbacks of its end, but SIGTERM ends the run in one of them."""
    with pytest.raises(SystemExit):
        fit(
            tiny_module(tmp_path),
            tmp_path,
            7,
            callbacks=[Kill(), Checkpoints(tmp_path / "c", 2)],
            logger=MetricsLog(tmp_path),
        )
    assert logged(tmp_path) == [0, 1, 2]
    log, newest = MetricsLog(tmp_path), tmp_path / "c" / "step-000003.ckpt"
    log.go_on(3, tmp_path)
    fit(tiny_module(tmp_path), tmp_path, 7, 3, newest, callbacks=[Checkpoints(tmp_path / "c", 2)], logger=log)
    assert logged(tmp_path) == list(range(7))


def test_a_log_of_every_second_step_has_no_line_of_the_others(tmp_path):
    log = MetricsLog(tmp_path)
    fit(tiny_module(tmp_path), tmp_path, 7, callbacks=[Checkpoints(tmp_path / "c", 1)], logger=log, log_every_n_steps=2)
    assert logged(tmp_path) == [1, 3, 5]


class Early(Stream):
    """Lightning asks for the length after it has set its own handler, before the training begins."""

    def __len__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().__len__()


def test_sigterm_before_the_first_step_is_no_success(tmp_path, capsys, monkeypatch):
    """Lightning would note the signal and exit after step 1 with status 0 and without a checkpoint."""
    monkeypatch.setattr("tests.training.tiny.Stream", Early)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning also calls an existing handler
    try:
        with pytest.raises(SystemExit) as caught:
            fit(tiny_module(tmp_path), tmp_path, 7, callbacks=[Checkpoints(tmp_path / "c", 100)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == EXIT_SIGTERM
    assert "SIGTERM: stopped before the first step" in capsys.readouterr().err


def test_a_cut_off_checkpoint_is_passed_over(tmp_path):
    fit(tiny_module(tmp_path), tmp_path, 6, callbacks=[Checkpoints(tmp_path / "c", 2, keep=3)])
    good, newest = tmp_path / "c" / "step-000004.ckpt", tmp_path / "c" / "step-000006.ckpt"
    assert newest_good(tmp_path / "c") == (newest, [])
    newest.write_bytes(newest.read_bytes()[:-1000])
    (tmp_path / "c" / "step-1000000.ckpt").write_bytes(b"")
    empty = tmp_path / "c" / "step-1000000.ckpt"
    assert newest_good(tmp_path / "c") == (good, [(empty, "is cut off"), (newest, "is cut off")])
    assert newest_good(tmp_path / "none") == (None, [])
