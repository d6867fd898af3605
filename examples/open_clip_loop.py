"""Hard pairs inside open_clip's own training loop: open_clip_train.train.train_one_epoch, unchanged, for ten steps.

    python examples/open_clip_loop.py [DIR]        DIR keeps what is mined (default: a temporary folder)

It uses the embedded emoji and the embedded model. The loop takes batches of images and texts, and a loss: `Data` passes
on what hard_pair_loader reads, and `Loss` adds the margin of the current batch.
"""

import logging
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip_train.train import train_one_epoch

from helip import HardPairIndex, HelipLoss, ShardIndex, hard_pair_loader, mine_hard_pairs
from helip.data.reader import SampleReader
from helip.data.transforms import decode_image
from helip.embedded import EMOJI, emoji_shards

STEPS, BATCH, TOPK = 10, 32, 10
WEIGHTS = EMOJI.parent / "emoji_tiny.pt"


class Data:
    """The object that open_clip expects as data["train"]."""

    def __init__(self, loader: torch.utils.data.DataLoader) -> None:
        self.loader, self.batch = loader, dict[str, torch.Tensor]()
        self.num_batches, self.num_samples = len(loader), len(loader) * BATCH
        self.dataloader = self

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: the order follows the step."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in self.loader:
            self.batch = batch
            yield self.batch["image"], self.batch["text"]


class Loss(torch.nn.Module):
    """CLIP's loss plus the hard negative margin, with the signature of open_clip's losses."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data, self.loss = data, HelipLoss(margin_weight=1.0)

    def forward(self, image_features, text_features, logit_scale, output_dict: bool = True) -> dict[str, torch.Tensor]:
        about = {name: self.data.batch[name] for name in ("target", "identity", "mined")}
        losses = self.loss(image_features, text_features, logit_scale, **about)
        return {"contrastive_loss": losses["clip_loss"], "margin_loss": losses["margin_loss"]}


@torch.no_grad()
def mine(model: Any, transform: Any, tokenize, shards: ShardIndex, folder: Path) -> HardPairIndex:
    """Embed all rows with the model itself and mine; for real data `python mine.py dataset=...` does this at scale."""
    reader, image, text = SampleReader(shards), [], []
    for start in range(0, len(shards), 256):
        rows = range(start, min(start + 256, len(shards)))
        pixels = torch.stack([transform(decode_image(reader.image_bytes(row))) for row in rows])
        image.append(model.encode_image(pixels))
        text.append(model.encode_text(tokenize([reader.captions(row)[0] for row in rows])))
    pairs = mine_hard_pairs(torch.cat(image), torch.cat(text), k=TOPK, fingerprint=shards.fingerprint)
    pairs.save(folder, overwrite=True)
    return HardPairIndex.load(folder)


def main(folder: Path) -> list[float]:
    """Train; returns the losses of the batches."""
    torch.manual_seed(0)
    created: Any = open_clip.create_model_and_transforms("emoji_tiny", pretrained=str(WEIGHTS), output_dict=True)
    model, train_transform, transform = created
    tokenize = open_clip.get_tokenizer("emoji_tiny")
    shards = ShardIndex.build(emoji_shards("val"))
    index = folder / "hard_pairs"
    model.eval()
    pairs = HardPairIndex.load(index) if index.exists() else mine(model, transform, tokenize, shards, index)
    data = Data(hard_pair_loader(shards, pairs, train_transform, tokenize, batch_size=BATCH, steps=STEPS, topk=TOPK))
    loss = Loss(data)
    losses: list[float] = []
    loss.register_forward_hook(lambda *call: losses.append(sum(float(part.detach()) for part in call[-1].values())))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    flags = Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True, grad_clip_norm=None
    )
    vars(flags).update(rank=0, local_rank=0, world_size=1, log_local=False, log_every_n_steps=1, batch_size=BATCH)
    vars(flags).update(wandb=False, horovod=False)
    train_one_epoch(model, {"train": data}, loss, 0, optimizer, None, None, None, flags)
    return losses


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
