"""AdamW with open_clip's no-decay rule, and warm-up + cosine as a pure function of the step.

open_clip chooses betas and eps by a substring of the model's name; here they are settings. Its values:
ViT 0.9, 0.98, 1e-6; ResNet 0.9, 0.999, 1e-8 (open_clip_train/params.py 3.3.0).
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from helip.errors import HelipError
from helip.typed import schedule

# resblocks of open_clip; blocks, layers and stages of timm; layerN of ResNets; layer of Hugging Face's text towers
BLOCK = re.compile(r"\.(?:resblocks|blocks|layers|stages|layer)\.?(\d+)\.")
EMBEDDING = re.compile(r"^(?!.*attn_?pool).*(?:embed|visual\.conv\d|visual\.bn\d|ln_pre|stem|patch|cls_token)")


@dataclass(frozen=True)
class OptimSettings:
    """Settings of the optimiser and its schedule.

    Args:
        lr: peak learning rate. 1e-5 continues a trained CLIP; open_clip's 5e-4 is for training from scratch.
        warmup: optimizer steps if an int, a share of max_steps in [0, 1) if a float.
        weight_decay: of matrices; vectors, biases, norms and the temperature have none. open_clip's default is 0.2.
        betas: decay rates of AdamW's moments.
        eps: added to AdamW's denominator.
        layer_decay: factor of the learning rate from each block of a tower to the one below it; 1: equal rates.
            Embeddings are below the first block; projections and last norms have the full rate (arXiv 2106.08254).
    """

    lr: float = schedule(default=1e-5)
    warmup: float | int = schedule(default=0.05)
    weight_decay: float = schedule(default=0.2)
    betas: list[float] = schedule(default_factory=lambda: [0.9, 0.98])
    eps: float = schedule(default=1e-6)
    layer_decay: float = schedule(default=1.0, firm="the moments are kept by its groups")

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise HelipError(f"optim.lr is {self.lr}: give a positive learning rate")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise HelipError(f"optim.betas={self.betas} must be two numbers from 0, below 1: optim.betas=[0.9,0.98]")
        if not (self.eps >= 0 and self.weight_decay >= 0):
            raise HelipError(f"optim.eps={self.eps} and optim.weight_decay={self.weight_decay} must not be negative")
        if not 0 < self.layer_decay <= 1:
            raise HelipError(f"optim.layer_decay is {self.layer_decay}: give a factor above 0, at most 1")
        if self.warmup < 0 or (isinstance(self.warmup, float) and self.warmup >= 1):
            raise HelipError(f"optim.warmup is {self.warmup}: give whole steps, or a share of training in [0, 1)")


def warmup_steps(warmup: float | int, max_steps: int) -> int:
    """Optimizer steps of warm-up, at most max_steps; a share is rounded."""
    return min(max_steps, round(warmup * max_steps) if isinstance(warmup, float) else warmup)


def lr_factor(step: int, max_steps: int, warmup: int) -> float:
    """Factor of the peak learning rate at a 0-based optimizer step: linear warm-up, then a half cosine to 0.

    As open_clip's cosine_lr, but 0 from max_steps, where open_clip's rises again or divides by zero.
    """
    if step < warmup:
        return (step + 1) / warmup
    if step >= max_steps:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (max_steps - warmup)))


def has_decay(name: str, parameter: torch.Tensor) -> bool:
    """open_clip's rule: no weight decay for ndim < 2 and for names with bn, ln, bias or logit_scale."""
    return parameter.ndim >= 2 and not any(part in name for part in ("bn", "ln", "bias", "logit_scale"))


def layer_depths(names: Iterable[str]) -> dict[str, int]:
    """The number of blocks between each parameter and the end of its tower; 0 after the last block.

    Reads the numbers in the names of transformers and staged networks of open_clip and timm.
    """
    block = {name: (_tower(name), int(match[1]) if (match := BLOCK.search(name)) else None) for name in names}
    numbers = {
        tower: sorted({n for own, n in block.values() if own == tower and n is not None})
        for tower in ("visual", "text")
    }

    def depth(name: str) -> int:
        tower, number = block[name]
        if number is not None:
            return len(numbers[tower]) - numbers[tower].index(number)
        return len(numbers[tower]) + 1 if EMBEDDING.search(name) and numbers[tower] else 0

    return {name: depth(name) for name in block}


def _tower(name: str) -> str:
    return "visual" if name.startswith("visual.") else "text"


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Trainable parameters grouped by decay (first without, then with) and depth, without empty groups.

    Returns:
        Groups with `params`, `weight_decay` and `lr_scale`, the factor of the learning rate.

    Raises:
        HelipError: no parameter is trainable, or layer_decay is set and the blocks of a tower are unknown.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trainable:
        raise HelipError("the model has no trainable parameter: unlock at least one tower")
    scale = dict.fromkeys(trainable, 1.0)
    if layer_decay != 1:
        depths = layer_depths(name for name, _ in model.named_parameters())
        if not any(depths.values()):
            raise HelipError(f"optim.layer_decay={layer_decay}: the blocks of this model are unknown; set it to 1")
        scale = {name: layer_decay ** depths[name] for name in trainable}
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        groups.setdefault((has_decay(name, parameter), -scale[name]), []).append(parameter)
    return [
        {"params": groups[key], "weight_decay": weight_decay * key[0], "lr_scale": -key[1]} for key in sorted(groups)
    ]


def build_optimizer(model: nn.Module, settings: OptimSettings, fused: bool = True) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`.

    Args:
        fused: use one kernel that reads and writes each weight once, if the device has it (a fifth of the time on a CPU
            core, docs/training.md). Not with a gradient scaler, which would unscale after the norm is logged.
    """
    groups = parameter_groups(model, settings.weight_decay, settings.layer_decay)
    for group in groups:
        group["lr"] = settings.lr * group["lr_scale"]
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.betas[0], settings.betas[1]),
        eps=settings.eps,
        fused=True if fused and devices <= {"cpu", "cuda"} else None,
    )


def build_schedule(
    optimizer: torch.optim.Optimizer, warmup: float | int, max_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule that advances once per optimizer step."""
    steps = warmup_steps(warmup, max_steps)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, max_steps, steps))


def overrule(checkpoint: dict[str, Any], settings: OptimSettings, max_steps: int) -> None:
    """Replace the settings in a checkpoint by these, in place; only moments and step are resumed."""
    steps = warmup_steps(settings.warmup, max_steps)
    peaks = []
    for optimizer in checkpoint.get("optimizer_states", []):
        for group in optimizer["param_groups"]:
            peak = settings.lr * group.get("lr_scale", 1.0)
            peaks.append(peak)
            group["initial_lr"], group["lr"] = peak, peak * lr_factor(checkpoint["global_step"], max_steps, steps)
            group["betas"], group["eps"] = (settings.betas[0], settings.betas[1]), settings.eps
            if group["weight_decay"]:
                group["weight_decay"] = settings.weight_decay
    for state in checkpoint.get("lr_schedulers", []):
        factor = lr_factor(state["last_epoch"], max_steps, steps)
        state["base_lrs"], state["_last_lr"] = peaks, [peak * factor for peak in peaks]
