"""One thread per core, each with single-threaded arithmetic.

OpenMP splits every operation and waits for the slowest core after each. That is slow on a shared machine: beside three
other processes on two cores the same search took 12 times as long. Our threads share only the embeddings and wait for
each other once per unit of work. numpy and torch release the interpreter's lock while they compute.
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event, local
from typing import TypeVar

import torch

FEEDERS = 4  # threads that keep a GPU busy while others of them rank what it found
Item = TypeVar("Item")
Result = TypeVar("Result")

_own = local()


@contextmanager
def feeding(device: torch.device) -> Generator[None]:
    """On a GPU: what this thread starts runs on that device, in a stream of the thread's own.

    Each thread keeps its stream, because torch caches free memory per stream.
    """
    if device.type != "cuda":
        yield
        return
    streams: dict[torch.device, torch.cuda.Stream] = _own.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    with torch.cuda.device(device), torch.cuda.stream(streams[device]):
        yield


class Stopped(Exception):
    """Another thread failed, or the user pressed Ctrl-C."""


class Workers:
    """A pool of threads.

    Args:
        threads: number of them; torch.get_num_threads() if None.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or torch.get_num_threads()
        self._stop = Event()
        self._pool = ThreadPoolExecutor(self.threads, "helip-mining", initializer=lambda: torch.set_num_threads(1))

    @classmethod
    def on(cls, device: torch.device) -> "Workers":
        """One thread for each of torch's on the CPU, `FEEDERS` on a GPU."""
        return cls(None if device.type == "cpu" else FEEDERS)

    def check(self) -> None:
        """Raises Stopped after a failure in another thread; the work calls it now and then."""
        if self._stop.is_set():
            raise Stopped

    def checked(self, tick: Callable[[int], None]) -> Callable[[int], None]:
        """`tick`, preceded by `check` at each call."""

        def both(done: int) -> None:
            self.check()
            tick(done)

        return both

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Results in the order of the items; the first exception is raised here after all threads have ended."""
        outside = torch.get_num_threads()
        futures = [self._pool.submit(function, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [future for future in futures if future.done() and future.exception()]
            return [future.result() for future in (failed or futures)]
        except BaseException:
            self._stop.set()
            wait(futures)
            raise
        finally:
            self._stop.clear()
            torch.set_num_threads(outside)  # the pool's own setting would be inherited by threads that start later
