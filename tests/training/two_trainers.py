"""What each of two processes runs under Lightning's DDP, started the way torchrun starts them."""

import os
from functools import partial

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from tests.training.tiny import batch_of, fit, tiny_module


def worker(rank, port, folder):
    """Trains to compare with one process, then in one go, then stopped and resumed; writes the weights of this rank."""
    torch.set_num_threads(1)
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    own = folder / f"rank{rank}"
    own.mkdir()
    train = partial(fit, make=partial(batch_of, rank=rank), strategy="ddp", devices=2)
    weights = {}

    still = tiny_module(own, dropout=0.0, eps=1e-3)
    train(still, folder, 4, logger=CSVLogger(folder, name="", version="logs"))
    weights["still"] = still.model.state_dict()

    every = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=2)
    unbroken = tiny_module(own)
    torch.manual_seed(100 + rank)  # the ranks drop different patches
    train(unbroken, folder, 4, callbacks=[every], enable_checkpointing=True)
    weights["unbroken"] = unbroken.model.state_dict()

    again = tiny_module(own)
    torch.manual_seed(999)
    trainer = train(again, folder, 4, start=2, ckpt_path=folder / "step=2.ckpt")
    weights["again"] = again.model.state_dict()
    weights["rng"] = torch.load(folder / "step=2.ckpt")["helip_rng"]["cpu"]
    torch.save(weights, folder / f"{rank}.pt")
    trainer.strategy.barrier()
    torch.distributed.destroy_process_group()
