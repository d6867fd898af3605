"""Samples per second of train.py beside open_clip's trainer and beside the bare step, on the same photos and model.

    python -m benchmarks.training OUT                          five interleaved runs, one thread
    python -m benchmarks.training OUT --threads 2
    python -m benchmarks.training OUT --runs 1 --epochs 1      a rough look
    RIG_GPU=0 python -m benchmarks.training OUT --preset vit-b-32 --workers 16      on the GPU of that number

2,048 synthetic 256-px JPEGs in 8 shards, a ViT of 13.3 M parameters at 64 px, batches of 64 pairs, two loader workers,
float32 (the other preset: 8,192 of 512 px, ViT-B-32 at 224 px, batches of 256, bf16), a log line every 10 steps in both
trainers. Time is taken between optimiser steps; the first two of each epoch are left out (open_clip starts its workers
there). `bare` updates its weights as open_clip does, `bare_fused` by the fused AdamW that ours uses: the difference
between ours and `bare_fused` is the cost of loader and trainer. Prints a table and writes OUT/training-THREADS.json
(or -PRESET).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from rich.console import Console
from rich.table import Table

from benchmarks.rig import (
    MODEL,
    NAME,
    ROOT,
    environment,
    install_rivals,
    run_timed,
    spread,
    step_seconds,
    write_model,
    write_photos,
)

SHARDS = 8


@dataclass(frozen=True)
class Preset:
    """What is trained on what; `precision` by Lightning's name and by open_clip's."""

    model: dict[str, Any]
    batch: int
    count: int
    side: int
    precision: tuple[str, str]


PRESETS = {
    "rig": Preset(MODEL, 64, 2048, 256, ("32-true", "fp32")),
    "dry": Preset(MODEL, 16, 128, 128, ("32-true", "fp32")),  # only shows that all programs run
    "vit-b-32": Preset(open_clip.get_model_config("ViT-B-32") or {}, 256, 8192, 512, ("bf16-mixed", "amp_bf16")),
}
PROGRAMS = ("bare", "open_clip", "ours", "ours_hard", "bare_fused")


def our_arguments(photos: Path, model: Path, folder: Path, precision: str) -> list[str]:
    """Overrides that mine.py and train.py share here."""
    return [
        "dataset=folder",
        f"dataset.path={photos}",
        "encoders=clip",
        f"model.name=local-dir:{model}",
        "model.pretrained=null",
        "trainer=cpu" if os.environ.get("RIG_GPU", "") == "" else "trainer=gpu",
        f"trainer.precision={precision}",
        f"paths.artifacts={folder / 'artifacts'}",
        f"paths.runs={folder / 'runs'}",
    ]


def commands(
    preset: Preset, photos: Path, configs: Path, shared: list[str], folder: Path, epochs: int, workers: int
) -> dict[str, list[str]]:
    """Arguments of each program."""
    config, steps = str(configs / f"{NAME}.json"), epochs * preset.count // preset.batch
    train = [*shared, f"data.batch_size={preset.batch}", f"data.workers={workers}", f"train.max_steps={steps}"]
    train += ["train.evaluate=end", "train.log_every=10", "optim.warmup=0"]
    bare = [config, str(preset.batch), str(steps), preset.precision[1]]
    rival = {
        "--train-data": f"{photos}/{{00000..{SHARDS - 1:05d}}}.tar",
        "--train-num-samples": preset.count,
        "--dataset-type": "webdataset",
        "--batch-size": preset.batch,
        "--workers": workers,
        "--precision": preset.precision[1],
        "--epochs": epochs,
        "--warmup": 0,
        "--model": NAME,
        "--lr": "1e-5",
        "--log-every-n-steps": 10,
        "--logs": folder / "open_clip_logs",
        "--save-frequency": 0,
    }
    return {
        "bare": [*bare, ""],
        "bare_fused": [*bare, "fused"],
        "open_clip": [config, *(str(part) for item in rival.items() for part in item)],
        "ours": [*train, "helip=off"],
        "ours_hard": [*train, "helip=paper"],
    }


def measure(
    preset: Preset, folder: Path, runs: int, epochs: int, threads: int, workers: int, programs: list[str]
) -> dict[str, list[Any]]:
    """Interleaved runs: program -> one record a run, with the median seconds of a step."""
    photos, (configs, model) = (
        write_photos(folder, preset.count, SHARDS, preset.side),
        write_model(folder, preset.model),
    )
    rivals, shared = install_rivals(folder), our_arguments(photos, model, folder, preset.precision[0])
    if "ours_hard" in programs:
        subprocess.run((sys.executable, "mine.py", *shared), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    records: dict[str, list[Any]] = {program: [] for program in programs}
    for run in range(runs):
        for program, arguments in commands(preset, photos, configs, shared, folder, epochs, workers).items():
            if program not in programs:
                continue
            record = run_timed(
                folder / "records" / f"{program}-{threads}-{run}.json",
                program.partition("_")[0] if program != "open_clip" else program,
                arguments,
                threads,
                rivals if program == "open_clip" else None,
            )
            for clock in ("wall", "cpu"):
                steps = step_seconds(record.pop(clock), preset.count // preset.batch)
                record[f"{clock}_seconds"] = statistics.median(steps)
            records[program].append(record)
            print(f"run {run + 1}: {program} {record['wall_seconds'] * 1e3:.0f} ms a step", flush=True)
    return records


def compare(records: dict[str, list[Any]], batch: int) -> dict[str, Any]:
    """Samples per second, and ratios of runs that are neighbours in time, because these share the machine's state."""

    def ratios(one: str, other: str, clock: str) -> dict[str, float] | None:
        if not (records.get(one) and records.get(other)):
            return None
        pairs = zip(records[one], records[other], strict=True)
        return spread([b[f"{clock}_seconds"] / a[f"{clock}_seconds"] for a, b in pairs])

    names = (
        ("ours", "open_clip"),
        ("ours", "bare"),
        ("ours", "bare_fused"),
        ("ours_hard", "ours"),
        ("ours_hard", "open_clip"),
        ("open_clip", "bare"),
    )
    return {
        "samples_per_second": {
            name: spread([batch / record["wall_seconds"] for record in runs]) for name, runs in records.items() if runs
        },
        **{
            f"ratios_{clock}": {f"{a}/{b}": value for a, b in names if (value := ratios(a, b, clock))}
            for clock in ("wall", "cpu")
        },
        "others_share": {
            name: spread([record["others_share"] for record in runs]) for name, runs in records.items() if runs
        },
    }


def show(result: dict[str, Any]) -> None:
    """Two tables."""
    console = Console(highlight=False)
    for title, block in result.items():
        if not isinstance(block, dict) or not all(isinstance(value, dict) for value in block.values()):
            continue
        table = Table("", "median", "min", "max", "runs", title=title)
        for name, value in block.items():
            if "median" in value:
                table.add_row(
                    name, *(f"{value[part]:.3f}" for part in ("median", "min", "max")), str(int(value["runs"]))
                )
        if table.row_count:
            console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="rig", choices=PRESETS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=PROGRAMS)
    args = parser.parse_args()
    folder, preset = args.folder.absolute(), PRESETS[args.preset]
    records = measure(preset, folder, args.runs, args.epochs, args.threads, args.workers, args.programs)
    result = compare(records, preset.batch) | {
        "environment": environment(),
        "records": records,
        "arguments": vars(args) | {},
    }
    result["arguments"]["folder"] = str(args.folder)
    out = folder / (f"training-{args.threads}.json" if args.preset == "rig" else f"training-{args.preset}.json")
    out.write_text(json.dumps(result, indent=1))
    show(result)
    print(f"written: {out}")


if __name__ == "__main__":
    main()
