"""Work that is done before its result is wanted, by a few threads of this process that end when nothing is left."""

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

THREADS = 16  # at 20 ms of latency, 800 blocks a second

Key = TypeVar("Key", bound=Hashable)


class Ahead(Generic[Key]):
    """Calls `work(key)` in the background, in the order in which keys are asked for.

    An error of `work` is dropped: whoever wants the result does the work again, and meets the error there.
    """

    def __init__(self, work: Callable[[Key], object]) -> None:
        self._work = work
        self._forget()

    def _forget(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._queue: deque[Key] = deque()
        self._pending: dict[Key, threading.Event] = {}
        self._threads = 0

    def ask(self, key: Key) -> None:
        """Have the work done soon; a key that is already waiting is done once."""
        if self._process != os.getpid():  # threads do not survive a fork
            self._forget()
        with self._lock:
            if key in self._pending:
                return
            self._pending[key] = threading.Event()
            self._queue.append(key)
            start = self._threads < THREADS
            self._threads += start
        if start:
            threading.Thread(target=self._run, daemon=True).start()

    def wait(self, key: Key) -> None:
        """Return when the work of a key that was asked for is done; at once for any other key."""
        if self._process == os.getpid() and (done := self._pending.get(key)):
            done.wait()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                key = self._queue.popleft()
            try:
                with suppress(Exception):
                    self._work(key)
            finally:
                with self._lock:
                    self._pending.pop(key).set()
