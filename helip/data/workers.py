"""Loader processes that ignore SIGTERM, so that the main process can finish its step and write a checkpoint."""

import atexit
import os
import signal
from typing import Any

from torch.utils.data import DataLoader

_started: list[tuple[int, Any]] = []  # (pid of the starter, process) of all patient loaders


class PatientLoader(DataLoader):
    """A DataLoader whose workers ignore SIGTERM, which schedulers send to every process, perhaps twice.

    Remaining workers are killed when the program ends, because Python would send them SIGTERM and wait. A worker whose
    main process has ended ends by itself (torch checks every five seconds). Arguments are those of DataLoader, without
    worker_init_fn.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, worker_init_fn=_ignore_sigterm)

    def __iter__(self) -> Any:
        iterator = super().__iter__()
        started = getattr(iterator, "_workers", [])  # none if the main process loads
        _started[:] = [(os.getpid(), process) for process in [*_alive(), *started]]
        return iterator


def _ignore_sigterm(worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _alive() -> list[Any]:
    """Live workers of this process; a fork of it also has the list, but did not start them."""
    return [process for parent, process in _started if parent == os.getpid() and process.is_alive()]


def end_workers() -> None:
    """Kill the remaining workers, and no other child process."""
    left = _alive()
    if left:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report their end as a failure
    for process in left:
        process.kill()


atexit.register(end_workers)  # runs before the exit handler of multiprocessing, which torch imported earlier
