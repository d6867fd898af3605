"""A two-layer CLIP at 32 px and a loader whose batches depend on the step alone."""

import json
from typing import Any

import open_clip
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from helip.training.losses import HelipLoss
from helip.training.module import HelipModule
from helip.training.optim import OptimSettings
from tests.training.batches import roles

NAME = "tiny-vit-test"
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 64,
        "head_width": 32,
        "patch_size": 8,
        "patch_dropout": 0.25,
    },
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 2, "layers": 2},
}
DESCRIPTION = {"name": NAME, "embed_dim": 32, "config": CONFIG}


def tiny_model(folder, seed=0, **changes):
    """The model through open_clip's own factory; patch dropout makes its steps depend on the random state."""
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG | changes))
    open_clip.add_model_config(folder / f"{NAME}.json")
    torch.manual_seed(seed)
    model: Any = open_clip.create_model(NAME, output_dict=True)
    return model


def tiny_module(folder, max_steps=8, dropout=0.25, **settings):
    """A module on the tiny model; settings of the optimiser by name."""
    optim = OptimSettings(**({"lr": 1e-3, "warmup": 2} | settings))
    model = tiny_model(folder, vision_cfg=CONFIG["vision_cfg"] | {"patch_dropout": dropout})
    return HelipModule(model, HelipLoss(), optim, max_steps, DESCRIPTION)


def batch_of(step, rank=0):
    """Four targets, one hard pair each, one filler; equal for equal steps and ranks."""
    target, identity, mined = roles(4, 1, 1, seed=step + 1000 * rank)
    generator = torch.Generator().manual_seed(step + 1000 * rank)
    return {
        "image": torch.randn(len(target), 3, 32, 32, generator=generator),
        "text": torch.randint(1, 64, (len(target), 8), generator=generator),
        "row": identity[:, 0],
        "target": target,
        "identity": identity,
        "mined": mined,
        "replaced": step % 2,
    }


def both_ranks(step):
    """The batches of ranks 0 and 1 as one process sees them."""
    first, second = batch_of(step, 0), batch_of(step, 1)
    size = len(first["target"])
    second["target"] = torch.where(second["target"] >= 0, second["target"] + size, -1)
    return {
        name: value + second[name] if name == "replaced" else torch.cat([value, second[name]])
        for name, value in first.items()
    }


class Stream(torch.utils.data.Dataset):
    def __init__(self, start, stop, make):
        self.steps, self.make = range(start, stop), make

    def __len__(self):
        return len(self.steps)

    def __getitem__(self, index):
        return self.make(self.steps[index])


def fit(module, folder, stop, start=0, ckpt_path=None, make=batch_of, **settings):
    """Train up to step `stop` on the batches make(step) from `start`; returns the Trainer."""
    options = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": stop,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in settings.get("callbacks", ())),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "default_root_dir": folder,
        "use_distributed_sampler": False,
    }
    trainer = pl.Trainer(**(options | settings))
    loader = torch.utils.data.DataLoader(Stream(start, 1000, make), batch_size=None)
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return trainer
