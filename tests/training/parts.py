"""Forward in parts, loss and backward: what each of two gloo processes runs, and one process beside them."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from helip.training.losses import HelipLoss
from helip.training.towers import forward_in_parts
from tests.training.tiny import CONFIG, batch_of, tiny_model


class Step(nn.Module):
    """As Lightning's DDP sees a training step: forward in parts and loss inside the wrapped module."""

    def __init__(self, model, loss, parts):
        super().__init__()
        self.model, self.loss, self.parts = model, loss, parts

    def forward(self, batch):
        features = forward_in_parts(self.model, batch["image"].double(), batch["text"], self.parts)
        return self.loss(**features, **{name: batch[name] for name in ("target", "identity", "mined")})


def gradients(model, loss, batch, parts, wrap=lambda module: module):
    """(terms, gradients by name) of one backward pass."""
    model.train().zero_grad()
    step = wrap(Step(model, loss, parts))  # DDP must live until the backward pass
    terms = step(batch)
    (terms["clip_loss"] + terms["margin_loss"]).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in terms.items()}, found


def worker(rank, address, folder: Path):
    """One of two ranks, in four parts; its terms and its gradients, which DDP has averaged."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    own = folder / f"rank{rank}"
    own.mkdir()
    model = tiny_model(own, vision_cfg=CONFIG["vision_cfg"] | {"patch_dropout": 0.0}).double()
    result = gradients(model, HelipLoss(rank=rank, world_size=2), batch_of(0, rank), 4, DistributedDataParallel)
    torch.save(result, folder / f"{rank}.pt")
    dist.destroy_process_group()
