"""Ranks, locks, loaders and the line before a long run."""

import threading
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from helip.errors import HelipError
from helip.pipeline import runtime
from helip.pipeline.estimate import describe_cost, duration
from helip.pipeline.runtime import (
    TrainerSpec,
    artefact_lock,
    barrier,
    describe_loader,
    global_rank,
    loader_prefetch,
    loader_workers,
    predict_trainer,
)


def test_precision_follows_the_hardware(monkeypatch) -> None:
    assert TrainerSpec("cpu").arguments()["precision"] == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert TrainerSpec("auto").arguments()["precision"] == "bf16-mixed"
    assert TrainerSpec("cpu").arguments()["precision"] == "32-true"
    assert TrainerSpec("gpu", precision="16-mixed").arguments()["precision"] == "16-mixed"
    with pytest.raises(HelipError, match=r"trainer\.precision=16-mixed needs a GPU: .* bf16-mixed"):
        TrainerSpec("cpu", precision="16-mixed").arguments()
    with pytest.raises(HelipError, match=r"trainer\.strategy=fsdp: .* take ddp"):
        TrainerSpec("gpu", strategy="fsdp").arguments()


def test_workers_share_the_cores_of_a_gpu_machine(monkeypatch) -> None:
    monkeypatch.setattr(runtime, "cores", lambda: 24)
    assert loader_workers("auto", TrainerSpec("cpu")) == 1
    assert loader_workers(0, TrainerSpec("gpu", 8)) == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert loader_workers("auto", TrainerSpec("gpu", 8)) == 3
    assert loader_workers("auto", TrainerSpec("gpu")) == 6
    assert loader_workers("auto", TrainerSpec("gpu", 1)) == 16  # more do not help
    monkeypatch.setattr(runtime, "cores", lambda: 64)
    assert loader_workers("auto", TrainerSpec("cpu")) == 4
    assert loader_workers("auto", TrainerSpec("cpu", 2)) == 2


def test_batches_ahead_fit_the_shared_memory(monkeypatch) -> None:
    """4,096 pairs at 224 px are 588 MiB in bytes: of 12 GiB eight workers fill half with one each."""
    batch = 4096 * 3 * 224 * 224
    monkeypatch.setattr(runtime, "shared_memory", lambda: 12 * 2**30)
    assert loader_prefetch("auto", 8, 64 * 3 * 64 * 64) == 4
    assert loader_prefetch("auto", 8, batch) == 1 and loader_prefetch("auto", 4, batch) == 2
    assert loader_prefetch(3, 8, batch) == 3
    assert describe_loader(8, 1, batch) == "loader: 8 workers a rank, each 1 batch ahead, 4.59 GiB in all"
    assert "only 12.00 GiB of shared memory are free" in describe_loader(8, 3, batch)
    assert describe_loader(0, 1, batch) == "loader: in the main process (data.workers=0)"


def test_the_rank_before_there_is_a_process_group(monkeypatch) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert global_rank() == 0
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("SLURM_PROCID", "5")
    assert global_rank() == 5


def test_a_rank_that_waits_for_a_dead_one_says_so(monkeypatch) -> None:
    def broken() -> None:
        raise RuntimeError("Connection closed by peer")

    barrier()  # one process waits for nobody
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "barrier", broken)
    with pytest.raises(HelipError, match="another process of this run has failed"):
        barrier()


def test_a_second_job_waits_for_the_artefact(tmp_path: Path, capsys) -> None:
    order: list[str] = []

    def first() -> None:
        with artefact_lock(tmp_path / "index", Console(quiet=True)):
            started.set()
            time.sleep(1.3)
            order.append("first")

    started = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    started.wait()
    with artefact_lock(tmp_path / "index", Console(soft_wrap=True)):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert f"another job makes {tmp_path}/index: waiting for it" in capsys.readouterr().out


def test_the_line_before_a_mining() -> None:
    """3 M rows of 1,152 numbers: 2.1e16 operations (method), 3e6 * (1152 * 4 + 1 + 100 * 16) bytes."""
    trainer = predict_trainer(TrainerSpec("cpu", 1), progress=False)
    line = describe_cost(3_000_000, 3_000_000, 100, trainer)
    assert line.startswith("3,000,000 rows, about 2.1e+16 FLOP for an exact search (")
    assert "TFLOP/s), 17 GiB on disk for embeddings and index" in line


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (119, "119 s"), (180, "3 min"), (9000, "2.5 h"), (720_000, "200 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_hardware_that_is_not_here() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(HelipError, match=r"this machine cannot run the trainer settings: .*gpu"):
        predict_trainer(TrainerSpec("gpu", 1), progress=False)
    assert runtime.global_rank() == 0
