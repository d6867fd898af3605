"""Run one program and record when each of its optimiser steps ended.

    python -m benchmarks.timed RECORD.json bare|open_clip|ours ARGUMENTS        (benchmarks/training.py calls it)

The clock is a hook that torch calls after every step of every optimiser: the same for all programs.
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

WALL: list[float] = []
CPU: list[float] = []  # of this process alone, which other jobs on a shared machine disturb least


def _stamp(*_: object) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    WALL.append(time.perf_counter())
    CPU.append(time.process_time())


def bare(config: str, batch_size: str, steps: str, precision: str, fused: str) -> None:
    """Forward, loss, backward and AdamW (`fused`, or "" as in open_clip) on one batch in memory."""
    import open_clip

    import helip.models.small_towers  # noqa: F401  names towers for timm

    device = "cuda" if torch.cuda.is_available() else "cpu"
    open_clip.add_model_config(Path(config).parent)
    torch.manual_seed(0)
    model: Any = open_clip.create_model(Path(config).stem, output_dict=True, device=device)
    loss = open_clip.loss.ClipLoss()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=1e-5, betas=(0.9, 0.98), eps=1e-6, fused=bool(fused) or None)
    side = model.visual.image_size[0]
    image = torch.randn(int(batch_size), 3, side, side, device=device)
    text = torch.randint(1, model.vocab_size - 1, (int(batch_size), model.context_length), device=device)
    text[:, 16:] = 0
    text[:, 15] = model.vocab_size - 1  # the end of text, where the text tower pools
    model.train()
    for _ in range(int(steps)):
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "amp_bf16"):
            terms = loss(**model(image, text), output_dict=True)
        terms["contrastive_loss"].backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)


def open_clip_trainer(config: str, *arguments: str) -> None:
    """open_clip_train.main on a model of our own; it has no flag for that."""
    import open_clip
    from open_clip_train.main import main

    open_clip.add_model_config(Path(config).parent)
    main(list(arguments))


def ours(*arguments: str) -> None:
    """train.py as a user starts it."""
    root = Path(__file__).parents[1]
    sys.path.insert(0, str(root))
    sys.argv = ["train.py", *arguments]
    runpy.run_path(str(root / "train.py"), run_name="__main__")


def main() -> None:
    """Write the stamps, and the CPU seconds of this process and of its children."""
    record, program, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    began = time.perf_counter()
    register_optimizer_step_post_hook(_stamp)
    {"bare": bare, "open_clip": open_clip_trainer, "ours": ours}[program](*arguments)
    used = os.times()
    totals = {
        "wall_total": time.perf_counter() - began,
        "cpu_total": used.user + used.system + used.children_user + used.children_system,
    }
    record.write_text(json.dumps({"wall": WALL, "cpu": CPU, "threads": torch.get_num_threads()} | totals))


if __name__ == "__main__":
    main()
