"""mine: from a dataset to its hard pairs, their tables and the contact sheet."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from helip.artifacts.atomic import digest, write_json
from helip.embedding.precomputed import Precomputed
from helip.errors import HelipError
from helip.mining.request import Mined, Rows, training_rows
from helip.models.clip import create_clip
from helip.programs.advice import print_advice
from helip.programs.hard_pairs import ensure_hard_pairs, reuse_hard_pairs
from helip.programs.mining_summary import check_label, print_mining
from helip.programs.requests import mining_request, plan_data
from helip.programs.session import Session
from helip.programs.settings import SharedSettings
from helip.programs.verify import verify
from helip.typed import operation, result


@dataclass(frozen=True)
class MineSettings(SharedSettings):
    """conf/mine.yaml: `reuse` names hard pairs whose rules are made stricter, `verify` checks instead of mining."""

    reuse: str | None = result()
    advise: bool = operation()
    verify: bool = operation()
    verify_rows: int = operation(least=1)
    verify_checkpoint: str | None = operation()


def mine(settings: MineSettings, folder: Path) -> None:
    """Shards (or arrays) -> embeddings -> hard pairs -> tables and contact sheet."""
    session = Session("mine", settings, folder)
    request = mining_request(settings)
    if settings.dataset.path is None:
        assert isinstance(request.embedding, Precomputed)
        rows = _bare_rows(request.embedding, session.console)
    else:
        rows = training_rows(session.open_index(), settings.dataset)
    if settings.verify:
        if session.rank == 0:
            sample, checkpoint = settings.verify_rows, settings.verify_checkpoint
            verify(request, rows, sample, checkpoint, settings.seed, session.console)
        return
    check_label(settings.dataset.label, rows)
    board = session.dashboard("mine")
    if settings.reuse:
        mined = reuse_hard_pairs(request, rows, Path(settings.reuse), session.trainer, session.console)
    else:
        mined = ensure_hard_pairs(request, rows, session.trainer, session.console)
    if settings.advise:
        _advise(session, settings, rows, mined)
        return
    if session.rank == 0:
        report = print_mining(request, rows, mined, session.stream.captions, session.folder, session.console)
        board.mined(mined, report)


def _advise(session: Session, settings: MineSettings, rows: Rows, mined: Mined) -> None:
    """Print whether a training on batches of these hard pairs would help, and write advice.json."""
    if rows.index is None:
        raise HelipError("advise=true evaluates the model on images, and dataset=none has none: set another dataset")
    how, batch_size, console = settings.helip.plan(), settings.data.batch_size, session.console
    how.check(batch_size)
    plan = how.bind(plan_data(settings, rows.index, rows, mined.index, console))
    embed = session.embed(create_clip(settings.model), rows.index)
    found = print_advice(embed, rows.wanted, plan, settings.helip.topk, batch_size, settings.seed, console)
    if session.rank == 0:
        write_json(session.folder / "advice.json", found)


def _bare_rows(arrays: Precomputed, console: Console) -> Rows:
    image, _ = arrays.load(console=console)
    return Rows(np.ones(len(image), bool), digest(arrays.identity, 64), None)
