"""Background work by a few threads, which end when the queue is empty."""

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

THREADS = 16  # at 20 ms of latency, 800 blocks a second


class Ahead:
    """Calls `work(key)` in the background, in the order of `ask`.

    An error of `work` is dropped: the caller that needs the result does the work itself and gets the error there.
    """

    def __init__(self, work: Callable[[Any], object]) -> None:
        self._work = work
        self._forget()

    def _forget(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._queue: deque[Hashable] = deque()
        self._pending: dict[Hashable, threading.Event] = {}
        self._threads = 0

    def ask(self, key: Hashable) -> None:
        """Queue a key, unless it is queued already."""
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

    def wait(self, key: Hashable) -> None:
        """Wait until the work for a queued key is done; return at once for any other key."""
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
