"""Which rows a training has shown to the model: an arm that visits few distinct targets is another experiment.

Counted where the model gets its batches, so that replaced rows and fillers count as what they were. Kept in the
checkpoint. Two bytes a row: 30 MB for 15 M pairs; the file holds an eighth of that.
Legend: N rows of the dataset, B pairs of this rank.
"""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

ROLES = ("targets", "partners")
KEY = "helip_seen"  # of the checkpoint


class RowCoverage(pl.Callback):
    """Marks the rows of every batch by their role; comes before the callback that writes checkpoints.

    Args:
        rows: N.
    """

    def __init__(self, rows: int) -> None:
        self.marks = {role: torch.zeros(rows, dtype=torch.uint8) for role in ROLES}  # (N,) each, over ranks when saved

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Marks live where the batches are: no step waits for a copy."""
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
        """All ranks' marks; Lightning calls this on all of them."""
        self._meet(trainer)
        packed = {role: np.packbits(marks.cpu().numpy()) for role, marks in self.marks.items()}
        checkpoint[KEY] = {role: torch.from_numpy(bits) for role, bits in packed.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for role, bits in checkpoint.get(KEY, {}).items():
            rows = len(self.marks[role])
            if len(bits) == -(-rows // 8):  # other shards, asked for by train.allow_change, have other rows
                self.marks[role] = torch.from_numpy(np.unpackbits(bits.numpy(), count=rows))

    def _meet(self, trainer: pl.Trainer) -> None:
        if trainer.world_size > 1:
            for marks in self.marks.values():
                torch.distributed.all_reduce(marks, torch.distributed.ReduceOp.MAX)

    def counts(self) -> dict[str, int]:
        """Distinct rows by role, and in any of the two, once the training has ended."""
        found = {f"distinct_{role}": int(marks.sum()) for role, marks in self.marks.items()}
        both = self.marks["targets"] | self.marks["partners"]
        return {**found, "distinct_pairs": int(both.sum())}
