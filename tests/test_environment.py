"""One sentence about failures of the machine."""

import errno
import os
import re

import pytest
import torch
from torch.utils.data import DataLoader

from helip.environment import machine_sentence


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), r"the disk is full \(/a/b\): free space"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot write: Read-only file system; set paths.artifacts"),
        (OSError(errno.EMFILE, "Too many open files", "x.tar"), r"the machine failed \(x.tar\): Too many open files"),
        (
            OSError(errno.ESTALE, os.strerror(errno.ESTALE)),
            "the machine failed: Stale file handle; fix it and repeat the command",
        ),
        (
            RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "),
            r"loader process 71 was killed \(Killed\), as happens when memory runs out: lower data.workers",
        ),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "loader process 7, 8 was gone"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            r"^CUDA out of memory\. lower data.batch_size, or set train.accum_freq",
        ),
        (RuntimeError("[/x/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:1"), "another process"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "x.npy"), r"the machine failed \(x.npy\): Cannot allocate"),
        (UnicodeEncodeError("utf-8", "/a/\udcff", 3, 4, "surrogates not allowed"), r"'/a/\\udcff' is not UTF-8"),
        (RuntimeError("PytorchStreamWriter failed writing file data/2"), "a checkpoint could not be written"),
    ],
)
def test_a_sentence_for_what_a_user_can_mend(error: BaseException, wanted: str) -> None:
    said = machine_sentence(error)
    assert said is not None
    assert re.search(wanted, said), said


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError("no number"), KeyError("x"), OSError(2, "x")])
def test_none_for_any_other(error: BaseException) -> None:
    assert machine_sentence(error) is None


@pytest.mark.parametrize(
    "error", [ConnectionResetError(errno.ECONNRESET, "reset by peer"), EOFError(), OSError(2, "x")]
)
def test_a_worker_that_dies_while_it_hands_over_a_batch(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The main process receives half of a message before torch notices the end of the worker."""

    def half(*_: object, **__: object) -> None:
        raise error

    batches = iter(DataLoader(range(4), num_workers=1))  # type: ignore[arg-type]
    monkeypatch.setattr(batches._data_queue, "get", half)  # type: ignore[attr-defined]
    with pytest.raises(type(error)) as caught:
        next(batches)
    said = machine_sentence(caught.value)
    assert said is not None and said.startswith("a loader process was gone, as happens when memory runs out")
    monkeypatch.undo()
