"""Does a long run grow, or slow down? Memory, open handles and CPU time of a program and its workers, from /proc.

    python -m benchmarks.endurance train OUT.json --seconds 3600            20 epochs and more on embedded emoji
    python -m benchmarks.endurance mine OUT.json ARRAYS --backend pool      arrays of benchmarks/synthetic.py
    python -m benchmarks.endurance mine OUT.json ARRAYS --backend approximate

Fixed before the first run: the first quarter of the time is start-up. Over the rest, memory is flat when the Theil-Sen
slope adds less than 16 MiB or 2 % (the larger), handles are flat when it adds less than one. The sample rate is
unchanged when the median epoch of the last fifth takes at most 5 % more CPU time than that of the first fifth (the very
first epoch left out), each in units of a fixed piece of work done beside it, because a shared machine drifts.
"""

import argparse
import json
import mmap
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.processes import Sample, look, per_unit, slope
from benchmarks.rig import ROOT, environment

START, GROWTH_MIB, GROWTH_SHARE, HANDLES, SLOWER = 0.25, 16.0, 0.02, 1.0, 0.05
BATCH, STEPS = 60, 20  # pairs a step, steps an epoch: four embedded shards of 300 rows
TRAIN = [
    "trainer=cpu",
    "dataset.parts.train=0:4",
    "dataset.evaluators=[{kind: retrieval, part: val}]",
    f"data.batch_size={BATCH}",
    "data.workers=2",
    "train.max_steps=10_000_000",  # --seconds ends it
    "train.evaluate=200",
    "train.checkpoint_every=100",
]
SERIES = ("memory", "main", "workers", "resident", "shared", "handles", "shared_handles", "processes")


def control(matrix: np.ndarray) -> float:
    """CPU seconds of a fixed piece of work."""
    began = time.process_time()
    for _ in range(8):
        _ = matrix @ matrix
    return time.process_time() - began


def counted(counter: Path, program: str, *arguments: str) -> None:
    """Run `program` in this process; every optimiser step is counted in the file, for the watching parent."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    with counter.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 8)

    def count(*_: object) -> None:
        shared[:8] = (int.from_bytes(shared[:8], "little") + 1).to_bytes(8, "little")

    register_optimizer_step_post_hook(count)
    sys.path.insert(0, str(ROOT))
    sys.argv = [program, *arguments]
    runpy.run_path(str(ROOT / program), run_name="__main__")


def watch(command: list[str], seconds: float | None, every: float, record: Path) -> int:
    """Run a program of this checkout and sample it every `every` seconds; SIGTERM after `seconds`.

    Args:
        record: gets a line of JSON per sample, so that an interrupted run can still be judged.

    Returns:
        The exit status.
    """
    matrix = np.random.default_rng(0).standard_normal((192, 192))
    record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, record.open("w") as lines:
        counter = Path(folder) / "steps"
        counter.write_bytes(bytes(8))
        began = time.monotonic()
        child = subprocess.Popen([sys.executable, __file__, "counted", str(counter), *command], cwd=ROOT)
        while child.poll() is None:
            time.sleep(every)
            elapsed = time.monotonic() - began
            sample = look(child.pid, elapsed, int.from_bytes(counter.read_bytes(), "little"), control(matrix))
            if sample.resident:
                print(json.dumps(asdict(sample)), file=lines, flush=True)
            if seconds is not None and elapsed > seconds:
                child.send_signal(signal.SIGTERM)
                child.wait()
    return child.returncode


def judge(samples: list[Sample]) -> dict[str, Any]:
    """Median, extremes and slope of each series after start-up; flat or not where a criterion is fixed."""
    seconds = np.array([sample.seconds for sample in samples])
    kept = seconds >= seconds[-1] * START
    seconds = seconds[kept]
    found: dict[str, Any] = {}
    for name in SERIES:
        values = np.array([getattr(sample, name) for sample in samples], np.float64)[kept]
        median, per_hour = float(np.median(values)), slope(seconds, values)
        added = per_hour * (seconds[-1] - seconds[0]) / 3600
        bound = HANDLES if "handles" in name or name == "processes" else max(GROWTH_MIB, GROWTH_SHARE * median)
        found[name] = {
            "median": median,
            "least": float(values.min()),
            "most": float(values.max()),
            "slope_per_hour": per_hour,
            "added": added,
            "bound": bound,
            "flat": bool(added < bound),
        }
    return found


def rate(samples: list[Sample], steps: int) -> dict[str, Any]:
    """CPU seconds of the first and the last epochs of `steps` steps, plain and in units of the control."""
    progress, cpu = (np.array([getattr(sample, name) for sample in samples]) for name in ("progress", "cpu"))
    work = np.array([sample.control for sample in samples])
    began = int(np.flatnonzero(progress == 0)[-1]) if (progress == 0).any() else 0
    progress, cpu, work = progress[began:], cpu[began:], work[began:]
    epochs = per_unit(progress, cpu, steps)[1:]
    beside = per_unit(progress, np.cumsum(work), steps)[1:] / per_unit(progress, np.arange(len(work)), steps)[1:]
    part = max(1, len(epochs) // 5)
    first, last = slice(0, part), slice(len(epochs) - part, None)
    plain = float(np.median(epochs[last]) / np.median(epochs[first]))
    relative = float(np.median(epochs[last] / beside[last]) / np.median(epochs[first] / beside[first]))
    return {
        "epochs": len(epochs) + 1,
        "epochs_compared": part,
        "cpu_seconds_an_epoch": {
            "first": float(np.median(epochs[first])),
            "last": float(np.median(epochs[last])),
            "median": float(np.median(epochs)),
            "least": float(epochs.min()),
            "most": float(epochs.max()),
        },
        "last_over_first": plain,
        "last_over_first_relative_to_control": relative,
        "unchanged": relative <= 1 + SLOWER,
    }


def show(result: dict[str, Any]) -> None:
    """A line a series, and the rate."""
    table = Table("", "median", "least", "most", "slope an hour", "added", "allowed", "")
    for name, line in result["series"].items():
        numbers = [f"{line[part]:,.1f}" for part in ("median", "least", "most", "slope_per_hour", "added", "bound")]
        table.add_row(name, *numbers, "flat" if line["flat"] else "GROWS")
    console = Console(highlight=False, width=120)
    console.print(table)
    if "rate" in result:
        line = result["rate"]
        console.print(
            f"{line['epochs']} epochs; CPU time of an epoch, last {line['epochs_compared']} over first "
            f"{line['epochs_compared']}: {line['last_over_first']:.3f}, relative to the control "
            f"{line['last_over_first_relative_to_control']:.3f}: {'unchanged' if line['unchanged'] else 'CHANGED'}"
        )


def mining_arguments(arrays: Path, backend: str, pool_size: int) -> list[str]:
    """Overrides of mine.py for bare arrays."""
    return [
        "dataset=none",
        "encoders=precomputed",
        f"encoders.image={arrays.absolute() / 'image.npy'}",
        f"encoders.text={arrays.absolute() / 'text.npy'}",
        f"search.backend={backend}",
        f"search.pool_size={pool_size}",
        "search.depth=50",
        "helip.topk=50",
    ]


def report(record: Path, out: Path, status: int | None) -> None:
    """Judge the samples of a record; a table, and a JSON file with at most 240 of the samples."""
    samples = [Sample(**json.loads(line)) for line in record.read_text().splitlines()]
    result: dict[str, Any] = {"status": status, "seconds": samples[-1].seconds, "cpu_seconds": samples[-1].cpu}
    result["series"] = judge(samples)
    if samples[-1].progress >= 10 * STEPS:
        result["rate"] = rate(samples, STEPS)
    result["environment"] = environment()
    result["samples"] = [asdict(sample) for sample in samples[:: -(-len(samples) // 240)]]
    out.write_text(json.dumps(result, indent=1))
    show(result)
    print(f"written: {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="what", required=True)
    for what in ("train", "mine", "report"):
        command = commands.add_parser(what)
        command.add_argument("out", type=Path, help="JSON; the samples lie beside it as .jsonl")
        command.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
        if what == "train":
            command.add_argument("--seconds", type=float, default=3600.0)
        if what == "mine":
            command.add_argument("arrays", type=Path)
            command.add_argument("--backend", default="pool")
            command.add_argument("--pool-size", type=int, default=20_000)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    record, status = args.out.with_suffix(".jsonl"), None
    with tempfile.TemporaryDirectory() as folder:
        places = [f"paths.artifacts={folder}/artifacts", f"paths.runs={folder}/runs"]
        if args.what == "train":
            status = watch(["train.py", *TRAIN, *places], args.seconds, args.every, record)
        elif args.what == "mine":
            arguments = mining_arguments(args.arrays, args.backend, args.pool_size)
            status = watch(["mine.py", *arguments, *places], None, args.every, record)
    report(record, args.out, status)


if __name__ == "__main__":
    if sys.argv[1:2] == ["counted"]:
        counted(Path(sys.argv[2]), *sys.argv[3:])
    else:
        main()
