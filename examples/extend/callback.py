"""A callback of Lightning: logs the length of all weights.

helip train --config-dir examples/extend/conf callbacks=weight_norm
"""

from typing import Any

import pytorch_lightning as pl
import torch


class WeightNorm(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        squares = [weight.detach().square().sum() for weight in pl_module.parameters()]
        pl_module.log("weight_norm", torch.stack(squares).sum().sqrt())
