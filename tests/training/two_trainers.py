"""The program of each of two processes under Lightning's DDP, started as torchrun starts them."""

import os
import signal
import time
from functools import partial

import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from helip.errors import HelipError
from helip.training.checkpoint_callback import Checkpoints
from helip.training.nan_guard import NanGuard
from tests.training.tiny import batch_of, fit, tiny_module


class Terminate(Callback):
    """SIGTERM for rank 1 only, before its third step."""

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 2 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Slow(Callback):
    """Steps of 0.1 s; only rank 1 has a timer."""

    def on_train_batch_start(self, trainer, *_):
        time.sleep(0.1)


class Diverge(Callback):
    """Rank 1's part of the loss is infinite in its third step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, *_):
        if trainer.global_step == 3 and trainer.global_rank == 1:
            outputs["loss"] = torch.tensor(torch.inf)


def diverged(train, own, folder):
    """The error message of the training."""
    callbacks = [Diverge(), NanGuard(folder), Checkpoints(folder, 2)]
    try:
        train(tiny_module(own), folder, 6, callbacks=callbacks)
    except HelipError as error:
        return str(error)


def terminated(train, own, folder):
    """(exit status, weights) of a run that SIGTERM ends, resumed."""
    module, status = tiny_module(own), None
    torch.manual_seed(100 + int(os.environ["RANK"]))
    try:
        train(module, folder, 6, callbacks=[Terminate(), Checkpoints(folder / "terminated", 100)])
    except SystemExit as stop:
        status = stop.code
    again = tiny_module(own)
    (path,) = (folder / "terminated").iterdir()
    train(again, folder, 6, start=4, ckpt_path=path)
    return status, again.model.state_dict()


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
    keep = Checkpoints(folder / "still", 2, keep=9)
    train(still, folder, 4, logger=CSVLogger(folder, name="", version="logs"), callbacks=[keep])
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
    longer = tiny_module(own)
    torch.manual_seed(100 + rank)
    train(longer, folder, 6)
    weights["longer"] = longer.model.state_dict()
    weights["diverged"] = diverged(train, own, folder / "diverged")
    weights["status"], weights["terminated"] = terminated(train, own, folder)
    minutes = 0.2 / 60 if rank == 1 else 1e6
    train(tiny_module(own), folder, 6, callbacks=[Slow(), Checkpoints(folder / "minutes", 100, minutes, keep=9)])

    alone = tiny_module(own, dropout=0.0, eps=1e-3)  # resumes the run of one process
    train(alone, folder, 4, start=2, ckpt_path=folder / "alone" / "step-000002.ckpt")
    weights["alone"] = alone.model.state_dict()

    weights["rng"] = torch.load(folder / "step=2.ckpt")["helip_rng"]["cpu"]
    torch.save(weights, folder / f"{rank}.pt")
    trainer.strategy.barrier()
    torch.distributed.destroy_process_group()
