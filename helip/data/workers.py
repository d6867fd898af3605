"""Loader processes that outlast SIGTERM, so that the main process can finish its step and write its checkpoint."""

import atexit
import os
import signal
from typing import Any

from torch.utils.data import DataLoader

_started: list[tuple[int, Any]] = []  # who started it, and the process, of all patient loaders


class PatientLoader(DataLoader):
    """A DataLoader whose workers take no notice of SIGTERM, which a scheduler sends to every process, perhaps twice.

    Those that are left over when the program ends are killed: Python would send them SIGTERM and wait. A worker whose
    main process is gone ends by itself (torch looks every five seconds).

    Args:
        as of DataLoader, but for worker_init_fn.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, worker_init_fn=_ignore_sigterm)

    def __iter__(self) -> Any:
        iterator = super().__iter__()
        started = getattr(iterator, "_workers", [])  # none where the main process loads
        _started[:] = [(os.getpid(), process) for process in [*_alive(), *started]]
        return iterator


def _ignore_sigterm(worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _alive() -> list[Any]:
    """Those that this process has started: a fork of it knows them too."""
    return [process for parent, process in _started if parent == os.getpid() and process.is_alive()]


def end_workers() -> None:
    """Kill the workers that are left over; other children of the program are not ours to end."""
    left = _alive()
    if left:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a failure
    for process in left:
        process.kill()


atexit.register(end_workers)  # runs before what multiprocessing, imported by torch, has registered
