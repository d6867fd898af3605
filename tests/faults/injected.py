"""Injected faults: processes that die at a named place, full disks."""

import os
import resource
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest import mock

import pytest


def in_child(action: Callable[[], object], patience: float = 120) -> int:
    """Exit status of a forked process: that of the action, or negative for the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            status = action()
            os._exit(status if isinstance(status, int) else 0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    return ended(pid, patience)


def ended(pid: int, patience: float = 120) -> int:
    """Wait for a child; kill it and fail if it hangs."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"the process hung for {patience} s")


@contextmanager
def dying(
    place: str, how: signal.Signals, call: int = 1, when: Callable[..., bool] = lambda *_: True
) -> Iterator[None]:
    """Send this process a signal at the `call`-th call of `place` (a dotted name) with arguments that fulfil `when`."""
    original, calls = resolve_name(place), 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += when(*args)
        if calls == call and when(*args):
            os.kill(os.getpid(), how)
        return original(*args, **kwargs)

    with mock.patch(place, wrapped):
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator["SmallDisk"]:
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


class SmallDisk:
    """A tmpfs whose size can be changed; skips the test where mounting is not permitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=4096k", "tmpfs", folder], check=True, capture_output=True
            )
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a tmpfs cannot be mounted here")

    def set(self, *options: str) -> None:
        """size=64k, ro, rw"""
        subprocess.run(["mount", "-o", ",".join(("remount", *options)), self.folder], check=True, capture_output=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True, capture_output=True)


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, which imitates a full disk without mounting."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
