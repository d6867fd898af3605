"""python mine.py: from a dataset to its hard pairs, their tables and the contact sheet."""

from pathlib import Path

import numpy as np
from rich.console import Console

from helip.artifacts.atomic import digest
from helip.embedding.precomputed import Precomputed
from helip.mining.request import Rows, training_rows
from helip.programs import build
from helip.programs.build import Config, Instantiate
from helip.programs.hard_pairs import ensure_hard_pairs, reuse_hard_pairs
from helip.programs.mining_summary import check_label, print_mining
from helip.programs.session import Session
from helip.programs.verify import VerifySettings, verify
from helip.typed import typed


def mine(config: Config, folder: Path, instantiate: Instantiate) -> None:
    """Shards (or arrays) -> embeddings -> hard pairs -> tables and contact sheet."""
    session = Session(config, folder, instantiate)
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
    if session.rank == 0:
        report = print_mining(request, rows, mined, session.common.stream.caption, folder, session.console)
        board.mined(mined, report)


def _bare_rows(arrays: Precomputed, console: Console) -> Rows:
    image, _ = arrays.load(console=console)
    return Rows(np.ones(len(image), bool), digest(arrays.identity, 64), None)
