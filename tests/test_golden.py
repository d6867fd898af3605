"""Twenty steps of the tiny model, from random weights, on the embedded data with hard pairs: losses to the last bit.

They stay equal unless a change of the numerics is intended; its commit regenerates the file and says why.

    python -m tests.test_golden              puts this machine's losses into tests/golden/losses.json
    python -m tests.test_golden --anew       and removes those of all others, after an intended change of the numerics

Bits depend on the processor and on the versions below; elsewhere the losses agree to a relative 1e-5 (5e-7 between an
Intel with torch 2.15 and an AMD with torch 2.14, measured).
"""

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

import helip
from helip.artifacts.shards import ShardIndex
from helip.data.datamodule import HelipDataModule
from helip.data.order import TargetOrder
from helip.data.partners import MinedPartners
from helip.data.plans.partners import PartnerPlan
from helip.data.reader import SampleReader
from helip.data.units import UnitReader
from helip.models.clip import ModelSpec, create_clip
from helip.training.losses import HelipLoss
from helip.training.module import HelipModule
from helip.training.optim import OptimSettings

FILE = Path(__file__).parent / "golden" / "losses.json"
EMBEDDED = Path(helip.__file__).parent / "embedded"
STEPS, BATCH, MINED = 20, 32, 8
PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "pillow", "numpy")


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs: Any, batch, batch_idx):
        self.values.append(float(outputs["loss"]))


def golden_run(folder: Path) -> list[float]:
    """Losses of a fixed run: two shards, the next eight rows of each target as its mined rows, one thread."""
    index = ShardIndex.build(sorted((EMBEDDED / "emoji").glob("*.tar"))[:2])
    rows = (np.arange(len(index))[:, None] + np.arange(1, MINED + 1)) % len(index)  # (N, 8)
    partners = MinedPartners(rows.astype(np.int32), index.valid, 1, 0, "drop", 1)
    torch.manual_seed(0)
    clip = create_clip(ModelSpec("emoji_tiny", None))
    order = TargetOrder(partners.eligible, index.starts, 0, 2)
    read = UnitReader(SampleReader(index), PartnerPlan(order, partners, BATCH), clip.train_transform, clip.tokenize, 0)
    module = HelipModule(clip.model, HelipLoss(), OptimSettings(lr=1e-3), STEPS, clip.description)
    losses = Losses()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=STEPS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[losses],
        default_root_dir=folder,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer.fit(module, HelipDataModule(read, STEPS, 0))
    finally:
        torch.set_num_threads(threads)
    return losses.values


def here() -> dict[str, str]:
    """What the last bits depend on."""
    processor = platform.processor()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {"processor": processor, "instructions": torch.backends.cpu.get_cpu_capability(), **versions}


def test_twenty_steps_have_the_golden_losses(tmp_path):
    losses = golden_run(tmp_path)
    assert len(losses) == STEPS
    for golden in json.loads(FILE.read_text()):
        if golden["made_on"] == here():
            assert losses == golden["losses"], "numerics changed; if they should: python -m tests.test_golden --anew"
        np.testing.assert_allclose(losses, golden["losses"], rtol=1e-5)


if __name__ == "__main__":
    others = [golden for golden in json.loads(FILE.read_text()) if golden["made_on"] != here()]
    kept = [] if "--anew" in sys.argv else others
    FILE.write_text(json.dumps([*kept, {"made_on": here(), "losses": golden_run(Path("."))}], indent=1) + "\n")
    print(f"written: {FILE}, {len(kept) + 1} machines")
