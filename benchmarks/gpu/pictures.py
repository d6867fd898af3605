"""Stages `photos` and `embed`: generated photos for the training stage, and how fast they become embeddings."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.gpu.notes import DEVICE, GPU, PHOTOS, Notes, wait
from benchmarks.rig import write_photos
from helip.data.transforms import decode_image
from helip.models.clip import ModelSpec, create_clip

SIDE = 512
DECODED = 256


def folder() -> Path:
    """Where photos and the training stage live."""
    return Path(os.environ.get("RIG", "/tmp/rig"))


def photos(note: Notes) -> None:
    """The shards that `benchmarks.training --preset vit-b-32` will find."""
    began = perf_counter()
    made = write_photos(folder(), PHOTOS, 8, SIDE)
    (folder() / "rivals" / "webdataset").mkdir(parents=True, exist_ok=True)  # else it asks pip, without a network
    note("photos", f"{PHOTOS} of {SIDE} px in {made}, {perf_counter() - began:.0f} s")


def embed(note: Notes) -> None:
    """Images per second: the encoder alone, decoding on one core, decoding on the card."""
    clip = create_clip(ModelSpec(os.environ.get("BENCH_MODEL", "ViT-B-32"), None))
    model: Any = clip.model.eval().to(DEVICE)
    side = model.visual.image_size
    side = side if isinstance(side, int) else side[0]
    for batch in (256, 1024) if GPU else (8,):
        pixels = torch.randn(batch, 3, side, side, device=DEVICE)
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16):
            rate = rate_of(lambda pixels=pixels: model.encode_image(pixels), batch)
        note(f"image tower alone, batch {batch}", f"{rate:,.0f} images/s")
    with tarfile.open(next(write_photos(folder(), PHOTOS, 8, SIDE).glob("*.tar"))) as tar:
        members = [member for member in tar.getmembers() if member.name.endswith("jpg")][:DECODED]
        files = [file.read() for member in members if (file := tar.extractfile(member))]
    began = perf_counter()
    for data in files:
        clip.eval_transform(decode_image(data))
    one = len(files) / (perf_counter() - began)
    cores = len(os.sched_getaffinity(0))
    note("decode and transform on one core", f"{one:.0f} images/s: {one * cores:,.0f} on {cores} if it scales")
    if GPU:
        note.attempt("decode on the card", lambda: decode_there(files))


def rate_of(run: Callable[[], object], batch: int) -> float:
    """Images per second of an encoder."""
    run()
    wait()
    began, times = perf_counter(), 10 if GPU else 1
    for _ in range(times):
        run()
    wait()
    return batch * times / (perf_counter() - began)


def decode_there(files: list[bytes]) -> str:
    """By nvJPEG; its pixels are not Pillow's, so that it is measured and not used."""
    from torchvision.io import ImageReadMode, decode_jpeg

    data = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    rate = rate_of(lambda: decode_jpeg(data, mode=ImageReadMode.RGB, device=DEVICE), len(data))
    return f"{rate:,.0f} images/s by torchvision.io.decode_jpeg"
