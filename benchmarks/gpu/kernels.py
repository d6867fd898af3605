"""Stages `env`, `kernel` and `tune`: the card, the kernels against float64, and the speed of several forms."""

import os
import sys
from importlib import metadata
from itertools import product
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.notes import DEVICE, GPU, WIDTHS, Notes, generated, milliseconds, wait
from helip.mining import fused, sweep
from helip.mining.bounds import RowSource, as_targets, looped_width
from helip.mining.exact import ExactSearch, fast_dtype
from helip.mining.flat import Limits
from helip.mining.fused import Form
from helip.mining.settings import Rules, SearchSettings
from helip.mining.vectors import open_pairs

PACKAGES = ("torch", "triton", "torchvision", "pytorch-lightning", "open_clip_torch", "webdataset", "numpy")
SHAPES = ((37, 110), (1000, 5001), (129, 2049)) if GPU else ((37, 110),)
RULES: tuple[dict[str, Any], ...] = (
    {},
    {"score": "text"},
    {"min_similarity": 0.2, "near_duplicate": 0.9},
    {"score": "image", "skip_first": 3},
)


def env(note: Notes) -> None:
    """The machine and what is installed."""
    note("python", sys.version.split()[0])
    for name in PACKAGES:
        note.attempt(name, lambda name=name: metadata.version(name))
    note("cores", len(os.sched_getaffinity(0)))
    if GPU:
        card = torch.cuda.get_device_properties(0)
        note("card", f"{card.name} sm_{card.major}{card.minor}, {card.total_memory / 2**30:.1f} GiB")
        a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.float16) for _ in (0, 1))
        note("8192^3 float16, TFLOP/s", round(2 * 8192**3 / milliseconds(lambda: a @ b) / 1e9, 1))
    note("fast_dtype", fast_dtype(torch.device(DEVICE)))


def sides(rows: int, seed: int, dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Targets and candidates, image and text each, as the kernels take them."""
    pairs = open_pairs(*(array.float().cpu().numpy() for array in generated(rows, seed)))
    block = RowSource(pairs, dtype, 1 << 30, torch.device(DEVICE)).rows(slice(None))
    own = [as_targets(side, v.width)[0] for side, v in zip(block, pairs.modalities, strict=True)]
    return own, [side.values for side in block]


def limits_of(threshold: torch.Tensor, score: int, low: float) -> Limits:
    """Limits without added errors and without near-duplicates."""
    none = torch.zeros(2, len(threshold), device=DEVICE)
    near = torch.full_like(none, float("inf"))
    return Limits(torch.cat([threshold[None], none, near]), None, Rules(score, low, low))


def kernel_case(dtype: torch.dtype, score: int, targets: int, count: int) -> str:
    """Counts of pairs that the kernel judges differently from float64 products, outside the error bound."""
    own, candidates = sides(count, 1, dtype)
    own = [values[:targets] for values in own]
    products = [
        a[:, : looped_width(w)].double() @ b[:, : looped_width(w)].double().T
        for a, b, w in zip(own, candidates, WIDTHS, strict=True)
    ]
    plain = (products[0] * products[1], *products)[score]
    limit = plain.float().kthvalue(int(count * 0.98), dim=1).values.clamp(min=1e-6)
    place = torch.full((targets,), -1, dtype=torch.int32, device=DEVICE)
    words = fused.mark(own, candidates, limits_of(limit, score, 0.0), None, WIDTHS)
    counts = fused.counted(words, place, count)
    target, column = (v.long() for v in fused.listed(words, place, counts, int(counts.sum()), count))
    found = torch.zeros(targets, count, dtype=torch.bool, device=DEVICE)
    found[target, column] = True
    lost = ((plain >= limit[:, None] * (1 + 1e-5)) & ~found).sum()
    more = (found & (plain < limit[:, None] * (1 - 2.0**-8))).sum()
    add = torch.zeros(targets, device=DEVICE)
    errors = [
        (fused.bounded(a, b, add, target.int(), column.int(), w) - p[target, column]).abs().max().item()
        for a, b, p, w in zip(own, candidates, products, WIDTHS, strict=True)
    ]
    return f"{len(target)} pairs, {int(lost)} lost, {int(more)} too many, largest error {max(errors):.1e}"


def kernel(note: Notes) -> None:
    """The kernels against float64 on ragged shapes, then whole searches against float32."""
    for dtype, score, (targets, count) in product((torch.float16, torch.bfloat16), (0, 1, 2), SHAPES):
        if GPU:
            name = f"{str(dtype)[6:]} score {score}, {targets} x {count}"
            note.attempt(name, lambda d=dtype, s=score, t=targets, c=count: kernel_case(d, s, t, c))
    count = 60_000 if GPU else 600
    image, text = (array.float().cpu().numpy() for array in generated(count, 3))
    rows = np.sort(np.random.default_rng(0).choice(count, min(4096, count), replace=False))
    for rules in RULES:
        pairs = open_pairs(image, text, text_group=np.arange(count) // 3)
        settings = SearchSettings(depth=10, **rules)
        plain = ExactSearch(pairs, settings, torch.float32, DEVICE).search_rows(rows)
        for dtype, triton in product((torch.float16, torch.bfloat16), (True, False)):
            fuse = sweep.can_fuse
            sweep.can_fuse = fuse if triton else (lambda *_: False)
            found = ExactSearch(pairs, settings, dtype, DEVICE).search_rows(rows)
            sweep.can_fuse = fuse
            same = np.array_equal(plain.rows, found.rows) and np.array_equal(plain.scores, found.scores)
            how = "kernel" if triton and fused.can_fuse(torch.device(DEVICE), dtype) else "plain products"
            note(f"{rules} {str(dtype)[6:]} {how}", f"same bytes as float32: {same}, redone {found.redone}")


def tune(note: Notes) -> None:
    """The kernel in several forms beside bare products, 8,192 targets by 32,768 candidates."""
    targets, count = (8192, 32768) if GPU else (64, 512)
    own, candidates = sides(count, 5, torch.float16)
    own = [values[:targets].contiguous() for values in own]
    work = 2 * targets * count * sum(WIDTHS)
    bare = milliseconds(lambda: [a @ b.T for a, b in zip(own, candidates, strict=True)])
    note("two torch products", f"{bare:.2f} ms, {work / bare / 1e9:.0f} TFLOP/s")
    if not GPU:
        return
    limits = limits_of(torch.full((targets,), 0.5, device=DEVICE), 0, 0.0)
    sizes = [
        (128, 256, 64, 8, 3),
        (128, 256, 64, 8, 4),
        (128, 128, 64, 8, 4),
        (128, 128, 64, 4, 3),
        (128, 128, 32, 8, 4),
    ]
    for (bm, bn, bk, warps, stages), tma, group in product(sizes, (1, 0), (8, 16)):
        form = Form({"BM": bm, "BN": bn, "BK": bk, "GROUP": group, "TMA": tma, "PACK": 1}, {})
        form.launch.update(num_warps=warps, num_stages=stages)

        def run(form: Form = form) -> str:
            took = milliseconds(lambda: fused.mark(own, candidates, limits, None, WIDTHS, form))
            return f"{took:.2f} ms, {work / took / 1e9:.0f} TFLOP/s"

        note.attempt(f"mark {bm}x{bn}x{bk}, warps {warps}, stages {stages}, group {group}, tma {tma}", run)
    place = torch.arange(targets, dtype=torch.int32, device=DEVICE)
    words = fused.mark(own, candidates, limits, None, WIDTHS)
    counts = fused.counted(words, place, count)
    total = int(counts.sum())
    note("count", f"{milliseconds(lambda: fused.counted(words, place, count)):.3f} ms")
    note("list_bits", f"{milliseconds(lambda: fused.listed(words, place, counts, total, count)):.3f} ms, {total} pairs")
    wait()
