"""A process that writes shards and is killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def kill_after(shards: int, script: str, source: Path, out: Path) -> Path:
    """Run `script SOURCE OUT` and kill it when some shards are finished. Returns the partial folder."""
    partial = out.with_name(f".{out.name}.partial")
    process = subprocess.Popen([sys.executable, "-c", script, str(source), str(out)])
    until = time.monotonic() + 240
    while len(list(partial.glob("*_stats.json"))) < shards and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return partial
