"""Shared by the speed benchmarks: photos in shards, a small CLIP, the rivals, and one clock for all programs.

Every program runs in its own process and is timed by the same hook on torch's optimisers (benchmarks/timed.py), not by
its own log. Runs are interleaved, because the speed of a shared machine drifts.
"""

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
TIMED = ROOT / "benchmarks" / "timed.py"
# open_clip's trainer needs webdataset < 0.3 and pandas, which ours must not see; wids is the rival of random reads.
RIVAL_PACKAGES = ("webdataset==0.2.86", "wids==0.1.11", "pandas", "pytz", "tzdata")
# 13.3 M parameters, the rig on which open_clip's trainer was measured first
MODEL = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 192, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 4},
}
NAME = "rig-vit"
TEXT = (
    "a the small red old wooden bright two three young man woman dog cat boat river street house tree sky snow bicycle "
    "runs stands over under near beside with without playing holding looking green quiet crowded morning evening field"
)


def write_photos(folder: Path, count: int = 2048, shards: int = 8, side: int = 256, seed: int = 0) -> Path:
    """Seeded synthetic photos: smooth colour fields with edges and grain, so that a JPEG is as large as a photo's.

    Layout of img2dataset with open_clip's sizes.json. An existing folder is reused.
    """
    folder = folder / f"photos-{count}-{shards}-{side}-{seed}"
    if (folder / "sizes.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng, sizes = np.random.default_rng(seed), {}
    for shard in range(shards):
        rows = range(shard * count // shards, (shard + 1) * count // shards)
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for row in rows:
                caption = " ".join(rng.choice(TEXT.split(), rng.integers(6, 16)))
                members = {"jpg": _photo(rng, side), "txt": caption.encode(), "json": json.dumps({"caption": caption})}
                for extension, data in members.items():
                    raw = data.encode() if isinstance(data, str) else data
                    info = tarfile.TarInfo(f"{row:09d}.{extension}")
                    info.size = len(raw)
                    tar.addfile(info, io.BytesIO(raw))
        sizes[f"{shard:05d}.tar"] = len(rows)
    (folder / "sizes.json").write_text(json.dumps(sizes))
    return folder


def _photo(rng: np.random.Generator, side: int) -> bytes:
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse).astype(np.float32)
    left, top = rng.integers(0, side // 2, 2)
    pixels[top : top + side // 2, left : left + side // 3] *= rng.uniform(0.3, 0.8)
    pixels += rng.normal(0, 6, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_model(folder: Path, model: dict[str, Any] = MODEL) -> tuple[Path, Path]:
    """The same model twice: a config file for open_clip's trainer, a local-dir for ours."""
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "configs" / f"{NAME}.json").write_text(json.dumps(model))
    (folder / "model" / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    return folder / "configs", folder / "model"


def install_rivals(folder: Path) -> Path:
    """Install the rivals' packages into a folder that only their processes see."""
    target = folder / "rivals"
    if not (target / "webdataset").exists():
        command = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), *RIVAL_PACKAGES)
        subprocess.run(command, check=True)
    return target


def run_timed(
    record: Path, program: str, arguments: Sequence[str], threads: int, path: Path | None = None
) -> dict[str, Any]:
    """Run one program under the clock of benchmarks/timed.py; its log stands beside the record."""
    record.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": os.environ.get("RIG_GPU", "")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    before = _busy()
    with open(record.with_suffix(".log"), "w") as log:
        done = subprocess.run(
            (sys.executable, str(TIMED), str(record), program, *arguments),
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        tail = "\n".join(record.with_suffix(".log").read_text().splitlines()[-12:])
        raise SystemExit(f"{program} failed, see {record.with_suffix('.log')}:\n{tail}")
    result = json.loads(record.read_text())
    return result | {"others_share": (_busy() - before - result["cpu_total"]) / (result["wall_total"] * _cores())}


def _busy() -> float:
    """CPU seconds that all processes of this machine have used."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return (sum(map(int, fields[:3])) + int(fields[5]) + int(fields[6])) / os.sysconf("SC_CLK_TCK")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def step_seconds(stamps: Sequence[float], epoch: int, skip: int = 2) -> list[float]:
    """Seconds between successive optimiser steps, without the first `skip` steps of each `epoch` steps."""
    gaps = np.diff(stamps)
    return [float(gap) for step, gap in enumerate(gaps, start=1) if step % epoch >= skip]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of a few runs."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": len(values)}


def environment() -> dict[str, Any]:
    """The commit, machine and versions that a figure depends on."""
    from importlib import metadata

    names = ("torch", "pytorch-lightning", "open_clip_torch", "webdataset", "pillow", "numpy")
    git = subprocess.run(("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"), capture_output=True, text=True)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": git.stdout.strip(),
        "machine": platform.platform(),
        "cores": _cores(),
        "versions": {name: metadata.version(name) for name in names},
    }
