"""The training batches as a Lightning data module."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from helip.data.batch import Packed, pack, unpack
from helip.data.pipeline import StepPositions, TrainingStream
from helip.data.plans.contract import units_per_step
from helip.data.units import UnitReader
from helip.data.workers import PatientLoader


class HelipDataModule(pl.LightningDataModule):
    """Batches of a plan over all ranks, starting at the trainer's global step.

    The global step is the only state of the stream, so a resumed run, or one with other workers or ranks, sees the same
    pairs.

    Args:
        steps: optimiser steps of the whole training.
        workers: loader processes per rank; each keeps `prefetch` batches ready.
    """

    def __init__(self, read: UnitReader, steps: int, workers: int, prefetch: int = 4) -> None:
        super().__init__()
        self.read, self.steps = read, steps
        self.workers, self.prefetch = workers, prefetch

    def train_dataloader(self) -> DataLoader:
        """Raises HelipError if the batch does not divide into whole units per rank."""
        trainer = self.trainer
        assert trainer is not None
        on_device = trainer.strategy.root_device.type == "cuda"
        positions = StepPositions(
            first_step=trainer.global_step,
            steps=self.steps,
            targets=units_per_step(self.read.plan, trainer.world_size),
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return PatientLoader(
            TrainingStream(positions, self.read),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=on_device,
            prefetch_factor=self.prefetch if self.workers else None,
            collate_fn=pack,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copy the batch as one buffer, and normalise the pixels on the device."""
        if not isinstance(batch, Packed):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        buffer = batch.buffer.to(device, non_blocking=device.type == "cuda")
        unpacked = unpack(batch._replace(buffer=buffer))
        if self.read.normalize is not None:
            unpacked["image"] = self.read.normalize(unpacked["image"])
        assert self.trainer is not None
        return self.trainer.precision_plugin.convert_input(unpacked)  # Lightning converted only the byte buffer
