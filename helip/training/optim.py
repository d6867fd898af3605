"""AdamW with open_clip's no-decay rule, and warm-up + cosine as a pure function of the step.

open_clip picks betas and eps by a substring of the model's name; here they are plain settings. Its values:
ViT 0.9, 0.98, 1e-6; ResNet 0.9, 0.999, 1e-8 (open_clip_train/params.py 3.3.0).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from helip.errors import HelipError


@dataclass(frozen=True)
class OptimSettings:
    """How the weights are updated.

    Args:
        lr: peak learning rate. 1e-5 continues a trained CLIP; open_clip's 5e-4 is for training from scratch.
        warmup: optimizer steps if an int, a share of max_steps in [0, 1) if a float.
        weight_decay: of matrices; vectors, biases, norms and the temperature have none. 0.2 is open_clip's.
        beta1: decay of AdamW's mean; beta2: of its mean square; eps: its denominator's floor.
    """

    lr: float = 1e-5
    warmup: float | int = 0.05
    weight_decay: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise HelipError(f"optim.lr is {self.lr}: give a positive learning rate")
        if self.warmup < 0 or (isinstance(self.warmup, float) and self.warmup >= 1):
            raise HelipError(f"optim.warmup is {self.warmup}: give whole steps, or a share of training in [0, 1)")


def warmup_steps(warmup: float | int, max_steps: int) -> int:
    """Optimizer steps of warm-up, at most max_steps; a share is rounded."""
    return min(max_steps, round(warmup * max_steps) if isinstance(warmup, float) else warmup)


def lr_factor(step: int, max_steps: int, warmup: int) -> float:
    """Factor of the peak learning rate at a 0-based optimizer step: linear warm-up, then a half cosine to 0.

    open_clip's cosine_lr, but 0 from max_steps on, where open_clip's rises again or divides by zero.
    """
    if step < warmup:
        return (step + 1) / warmup
    if step >= max_steps:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (max_steps - warmup)))


def has_decay(name: str, parameter: torch.Tensor) -> bool:
    """open_clip's rule: no weight decay for ndim < 2 and for what is named bn, ln, bias or logit_scale."""
    return parameter.ndim >= 2 and not any(part in name for part in ("bn", "ln", "bias", "logit_scale"))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups, without and with decay; groups are never empty."""
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trainable:
        raise HelipError("the model has no trainable parameter: unlock at least one tower")
    groups = [
        {"params": [p for name, p in trainable if not has_decay(name, p)], "weight_decay": 0.0},
        {"params": [p for name, p in trainable if has_decay(name, p)], "weight_decay": weight_decay},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, settings: OptimSettings, fused: bool = True) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`.

    Args:
        fused: one kernel reads and writes each weight once (a fifth of the time on a CPU core, docs/training.md), where
            the device has it. Not with a gradient scaler: it would unscale inside, after the norm is logged.
    """
    groups = parameter_groups(model, settings.weight_decay)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True if fused and devices <= {"cpu", "cuda"} else None,
    )


def build_schedule(
    optimizer: torch.optim.Optimizer, warmup: float | int, max_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Schedule to be advanced once per optimizer step."""
    steps = warmup_steps(warmup, max_steps)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, max_steps, steps))


def overrule(checkpoint: dict[str, Any], settings: OptimSettings, max_steps: int) -> None:
    """Put these settings in the place of a checkpoint's own, in place: only the moments and the step are resumed."""
    steps = warmup_steps(settings.warmup, max_steps)
    for schedule in checkpoint.get("lr_schedulers", []):
        schedule["base_lrs"] = [settings.lr] * len(schedule["base_lrs"])
        factor = lr_factor(schedule["last_epoch"], max_steps, steps)
        schedule["_last_lr"] = [settings.lr * factor] * len(schedule["base_lrs"])
    for optimizer in checkpoint.get("optimizer_states", []):
        for group in optimizer["param_groups"]:
            group["initial_lr"] = settings.lr
            group["lr"] = settings.lr * lr_factor(checkpoint["global_step"], max_steps, steps)
            group["betas"], group["eps"] = (settings.beta1, settings.beta2), settings.eps
            if group["weight_decay"]:
                group["weight_decay"] = settings.weight_decay
