"""Memory, open handles and CPU time of a process and its descendants, from /proc; and whether a series is flat.

Memory is the proportional share (PSS) of anonymous and shared memory, which only a process can free. Mapped pages of
files, such as embeddings, belong to the kernel's cache; pages that a worker inherits are counted once.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TICK = os.sysconf("SC_CLK_TCK")
MIB = 1024  # kB


@dataclass(frozen=True)
class Sample:
    """One sample of a process tree.

    Attributes:
        seconds: since the start of the program.
        cpu: seconds of all processes so far, of ended ones too.
        memory, main, workers: MiB, of all; of the first process; of the others.
        resident: MiB, RSS of the first process, mapped files included.
        shared: MiB of shared memory (/dev/shm).
        handles, shared_handles: open files; of these in /dev/shm.
        processes: alive.
        progress: as the program counts it, such as optimiser steps.
        control: CPU seconds of the same small piece of work, done beside the program.
    """

    seconds: float
    cpu: float
    memory: float
    main: float
    workers: float
    resident: float
    shared: float
    handles: int
    shared_handles: int
    processes: int
    progress: int
    control: float


def descendants(root: int) -> list[int]:
    """`root` and every process below it."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = _stat(int(name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def look(root: int, seconds: float, progress: int, control: float) -> Sample:
    """A sample of the tree below `root`; processes that end meanwhile are left out."""
    tree = descendants(root)
    cpu = 0.0
    for pid in tree:
        fields = _stat(pid)
        cpu += sum(map(int, fields[11:15])) / TICK if fields else 0.0
    first, *others = (_memory(pid) for pid in tree)
    handles = [target for pid in tree for target in _handles(pid)]
    main, workers = first["Pss_Anon"] + first["Pss_Shmem"], sum(m["Pss_Anon"] + m["Pss_Shmem"] for m in others)
    return Sample(
        seconds=seconds,
        cpu=cpu,
        memory=main + workers,
        main=main,
        workers=workers,
        resident=first["Rss"],
        shared=sum(memory["Pss_Shmem"] for memory in (first, *others)),
        handles=len(handles),
        shared_handles=sum(target.startswith("/dev/shm") for target in handles),
        processes=len(tree),
        progress=progress,
        control=control,
    )


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _memory(pid: int) -> dict[str, float]:
    """MiB by name; zeros when the process is gone."""
    found: dict[str, float] = dict.fromkeys(("Rss", "Pss_Anon", "Pss_Shmem"), 0.0)
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return found
    return found | {name: int(value.split()[0]) / MIB for name, _, value in (line.partition(":") for line in lines)}


def _handles(pid: int) -> list[str]:
    """What the open files of a process point to."""
    found = []
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            found.append(os.readlink(f"{folder}/{name}"))
    except OSError:  # the process, or the one file, is gone
        pass
    return found


def slope(seconds: np.ndarray, values: np.ndarray) -> float:
    """Theil and Sen's: the median of the slopes of all pairs, which a few outliers cannot move. Per hour."""
    first, second = np.triu_indices(len(values), 1)
    apart = seconds[second] - seconds[first]
    return float(np.median((values[second] - values[first])[apart > 0] / apart[apart > 0])) * 3600


def per_unit(progress: np.ndarray, cpu: np.ndarray, unit: int) -> np.ndarray:
    """CPU seconds of each whole `unit` of progress, such as the steps of an epoch, interpolated between samples."""
    moved = np.concatenate([[True], np.diff(progress) > 0])  # the first sight of each value
    edges = np.arange(0, progress[-1] + 1, unit)
    return np.diff(np.interp(edges, progress[moved], cpu[moved]))
