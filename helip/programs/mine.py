"""python mine.py: from a dataset to its hard pairs, their tables and the contact sheet."""

from pathlib import Path

import numpy as np
from rich.console import Console

from helip.artifacts.atomic import digest
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.evaluation.clip_embed import predict_drive
from helip.mining.request import Mined, Rows, training_rows
from helip.models.clip import create_clip
from helip.programs import build
from helip.programs.advice import print_advice
from helip.programs.build import Config, Instantiate
from helip.programs.hard_pairs import ensure_hard_pairs, reuse_hard_pairs
from helip.programs.mining_summary import check_label, print_mining
from helip.programs.session import Session
from helip.programs.verify import VerifySettings, verify
from helip.typed import typed


def mine(config: Config, folder: Path, instantiate: Instantiate) -> None:
    """Shards (or arrays) -> embeddings -> hard pairs -> tables and contact sheet."""
    session = Session("mine", config, folder, instantiate)
    folder = session.folder
    request = build.mining_request(config, instantiate)
    if session.common.dataset.path is None:
        assert isinstance(request.embedding, Precomputed)
        rows = _bare_rows(request.embedding, session.console)
    else:
        rows = training_rows(session.open_index(), session.common.dataset)
    if config["verify"]:
        what = typed(VerifySettings, "verify", {n: config[f"verify_{n}"] for n in ("rows", "checkpoint")})
        if session.rank == 0:
            verify(request, rows, what, config["seed"], session.console)
        return
    check_label(session.common.dataset.label, rows)
    board = session.dashboard("mine")
    if config["reuse"]:
        mined = reuse_hard_pairs(request, rows, Path(config["reuse"]), session.trainer, session.console)
    else:
        mined = ensure_hard_pairs(request, rows, session.trainer, session.console)
    if config["advise"]:
        _advise(session, rows, mined, request.topk)
        return
    if session.rank == 0:
        report = print_mining(request, rows, mined, session.common.stream.captions, folder, session.console)
        board.mined(mined, report)


def _advise(session: Session, rows: Rows, mined: Mined, topk: int) -> None:
    """Whether a training with these hard pairs would pay."""
    if rows.index is None:
        raise HelipError("advise=true looks at the model on images, which dataset=none has not: name a dataset")
    clip, device = create_clip(session.common.model), session.trainer.strategy.root_device
    embed = session.embed(clip, rows.index, predict_drive(session.trainer), device)
    batch_size, seed = session.common.stream.batch_size, session.config["seed"]
    print_advice(embed, rows.wanted, mined.index, topk, batch_size, seed, session.console)


def _bare_rows(arrays: Precomputed, console: Console) -> Rows:
    image, _ = arrays.load(console=console)
    return Rows(np.ones(len(image), bool), digest(arrays.identity, 64), None)
