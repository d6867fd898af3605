"""Counts the distinct rows that a training has used, by role, to compare arms.

Rows are counted in the batches of the model, after replacements. Checkpoints keep the marks. Memory: two bytes per row
(30 MB for 15 M pairs), an eighth of that in the checkpoint.
Legend: N rows of the dataset, B pairs of this rank.
"""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

ROLES = ("targets", "partners")
KEY = "helip_seen"  # of the checkpoint


class RowCoverage(pl.Callback):
    """Marks the rows of every batch by role; must precede the callback that writes checkpoints."""

    def __init__(self, rows: int) -> None:
        # (N,) each; those of all ranks are merged when they are saved
        self.marks = {role: torch.zeros(rows, dtype=torch.uint8) for role in ROLES}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the marks to the device of the batches, so that no step waits for a copy."""
        self.marks = {role: marks.to(pl_module.device) for role, marks in self.marks.items()}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        row, target = batch["row"], batch["target"]  # (B,)
        own = target == torch.arange(len(target), device=target.device)
        for role, which in (("targets", own), ("partners", ~own & (target >= 0))):
            self.marks[role].scatter_reduce_(0, row, which.to(torch.uint8), "amax")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._meet(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the marks of all ranks; Lightning calls this on all ranks."""
        self._meet(trainer)
        packed = {role: np.packbits(marks.cpu().numpy()) for role, marks in self.marks.items()}
        checkpoint[KEY] = {role: torch.from_numpy(bits) for role, bits in packed.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for role, bits in checkpoint.get(KEY, {}).items():
            rows = len(self.marks[role])
            if len(bits) == -(-rows // 8):  # with train.allow_change the shards, and thus the rows, may differ
                self.marks[role] = torch.from_numpy(np.unpackbits(bits.numpy(), count=rows))

    def _meet(self, trainer: pl.Trainer) -> None:
        if trainer.world_size > 1:
            for marks in self.marks.values():
                torch.distributed.all_reduce(marks, torch.distributed.ReduceOp.MAX)

    def counts(self) -> dict[str, int]:
        """Number of distinct rows by role, and in any role, after the training."""
        found = {f"distinct_{role}": int(marks.sum()) for role, marks in self.marks.items()}
        both = self.marks["targets"] | self.marks["partners"]
        return {**found, "distinct_pairs": int(both.sum())}
