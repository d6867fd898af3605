"""Ranks, locks, loaders and the estimate before a long run."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock
from rich.console import Console

from helip import ranks as runtime
from helip.data import loading
from helip.data.loading import describe_loader, loader_prefetch, loader_workers
from helip.errors import HelipError
from helip.mining.estimate import describe_cost, duration
from helip.programs.continued import resumed
from helip.ranks import (
    TrainerSpec,
    artefact_lock,
    barrier,
    global_rank,
    predict_trainer,
)
from helip.training.resume_guard import OURS
from tests.faults.injected import ended
from tests.programs.conftest import settings


def test_precision_follows_the_hardware(monkeypatch) -> None:
    assert TrainerSpec("cpu").arguments()["precision"] == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    emulated = False
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or not emulated
    )
    assert TrainerSpec("auto").arguments()["precision"] == "bf16-mixed"
    emulated = True  # a T4 emulates bfloat16
    assert TrainerSpec("auto").arguments()["precision"] == "32-true"
    assert TrainerSpec("cpu").arguments()["precision"] == "32-true"
    assert TrainerSpec("gpu", precision="16-mixed").arguments()["precision"] == "16-mixed"
    with pytest.raises(HelipError, match=r"trainer\.precision=16-mixed needs a GPU: .* bf16-mixed"):
        TrainerSpec("cpu", precision="16-mixed").arguments()
    with pytest.raises(HelipError, match=r"trainer\.strategy=fsdp is not supported: .* set trainer\.strategy=ddp"):
        TrainerSpec("gpu", strategy="fsdp").arguments()


def test_workers_share_the_cores_of_a_gpu_machine(monkeypatch) -> None:
    monkeypatch.setattr(loading, "cores", lambda: 24)
    assert loader_workers("auto", TrainerSpec("cpu")) == 1
    assert loader_workers(0, TrainerSpec("gpu", 8)) == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert loader_workers("auto", TrainerSpec("gpu", 8)) == 3
    assert loader_workers("auto", TrainerSpec("gpu")) == 6
    assert loader_workers("auto", TrainerSpec("gpu", 1)) == 16  # more workers do not help
    monkeypatch.setattr(loading, "cores", lambda: 64)
    assert loader_workers("auto", TrainerSpec("cpu")) == 4
    assert loader_workers("auto", TrainerSpec("cpu", 2)) == 2


def test_batches_ahead_fit_the_shared_memory(monkeypatch) -> None:
    """4,096 pairs at 224 px are 588 MiB in bytes: of 12 GiB eight workers fill half with one each."""
    batch = 4096 * 3 * 224 * 224
    monkeypatch.setattr(loading, "shared_memory", lambda: 12 * 2**30)
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


def rank_of_two(rank: int, folder: Path, action: Callable[[], object]) -> None:
    """In a child: a gloo group whose own collectives wait for 0.3 s at most."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", world_size=2, rank=rank)
    barrier()  # as predict_trainer ends
    default: Any = torch.distributed.group.WORLD
    default._get_backend(torch.device("cpu"))._set_default_timeout(timedelta(seconds=0.3))
    action()


def in_two_children(folder: Path, *actions: Callable[[], object]) -> list[int]:
    """Statuses of two ranks; 1 for a HelipError, whose sentence is in said-RANK."""

    def child(rank: int) -> int:
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                rank_of_two(rank, folder, actions[rank])
                status = 0
            except HelipError as error:
                (folder / f"said-{rank}").write_text(str(error))
                status = 1
            finally:
                os._exit(status)
        return pid

    return [ended(pid, 30) for pid in [child(rank) for rank in range(2)]]


def test_ranks_wait_for_another_job_longer_than_their_collectives(tmp_path: Path) -> None:
    def use() -> None:
        with artefact_lock(tmp_path / "index", Console(quiet=True)):
            (tmp_path / f"used-{global_rank()}").touch()

    lock = FileLock(tmp_path / "index.lock", thread_local=False)
    lock.acquire()
    timer = threading.Timer(1.0, lock.release)
    timer.start()
    try:
        assert in_two_children(tmp_path, use, use) == [0, 0]
    finally:
        timer.join()
    assert (tmp_path / "used-0").exists() and (tmp_path / "used-1").exists()


def test_a_rank_that_waits_for_a_dead_one_says_so(tmp_path: Path) -> None:
    barrier()  # one process does not wait

    def die() -> None:
        os._exit(7)

    def wait() -> None:
        runtime.PATIENCE = timedelta(seconds=0.2)
        barrier()

    assert in_two_children(tmp_path, barrier, die) == [1, 7]
    assert (tmp_path / "said-0").read_text().startswith("another process of this run has failed")
    late = tmp_path / "late"
    late.mkdir()
    assert in_two_children(late, wait, lambda: time.sleep(0.8))[0] == 1
    assert "did not arrive in 0:00:00.2" in (late / "said-0").read_text()


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


def test_a_warning_is_printed_without_markup(tmp_path: Path, capsys) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save(dict.fromkeys(OURS, 0), tmp_path / "checkpoints/step-000001.ckpt")
    (tmp_path / "checkpoints/step-000002.ckpt").write_bytes(b"cut off")
    session: Any = SimpleNamespace(console=Console(markup=False, soft_wrap=True))
    asked = replace(settings("train").train, resume=str(tmp_path))
    assert str(resumed(session, asked, {}).resume).endswith("step-000001.ckpt")
    assert capsys.readouterr().out.startswith("warning: /")


def test_the_line_before_a_mining() -> None:
    """3 M rows of 1,152 numbers: 2.1e16 operations (method), 3e6 * (1152 * 4 + 1 + 100 * 16) bytes."""
    line = describe_cost(3_000_000, 3_000_000, 100, torch.device("cpu"), 1)
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
