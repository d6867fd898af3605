"""What is decided once for all ranks and for every restart: the backend, its cells, how many of them are looked at."""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from helip.artifacts.atomic import atomic_file, write_json
from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.mining.approximate import ApproximateSearch, choose_probes
from helip.mining.cells import Cells, build_cells
from helip.mining.choose import choose
from helip.mining.exact import ExactSearch
from helip.mining.pool import PoolSearch
from helip.mining.probe import interval, overlap, probe_rows
from helip.mining.rescore import Ranked
from helip.mining.settings import SearchSettings
from helip.mining.sweep import Tick
from helip.mining.vectors import Pairs

Plan = dict[str, Any]


class Search(Protocol):
    """What finds hard pairs."""

    @property
    def name(self) -> str:
        """Of the backend."""
        ...

    @property
    def order(self) -> np.ndarray | None:
        """(N,) row at each place; None: a place is a row."""
        ...

    def search(self, places: range, tick: Tick) -> Ranked:
        """The hard pairs of the rows at consecutive places."""
        ...

    def cost(self, places: range) -> int:
        """Pairs that `search` will look at."""
        ...


def make_plan(pairs: Pairs, folder: Path, settings: SearchSettings, device: str) -> None:
    """Write plan.json, and cells.npz for the approximate backend, into the folder of partial results; kept if there."""
    path = folder / "plan.json"
    if path.is_file():
        return
    width, count = pairs.image.width + pairs.text.width, int(pairs.valid.sum())
    backend, reason = choose(settings, count, width, device)
    plan: Plan = {"backend": backend, "reason": reason}
    if backend == "approximate":
        cells = build_cells(pairs, settings, device)
        probes, recall = choose_probes(pairs, settings, cells, device)
        plan |= {"cells": len(cells.starts) - 1, "probes": probes, "recall": recall.as_dict()}
        with atomic_file(folder / "cells.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, order=cells.order, starts=cells.starts, near=cells.near)
    if backend == "pool":
        plan["expected_recall"] = min(1.0, settings.pool_size / count)
    write_json(path, plan)


def read_plan(folder: Path) -> Plan:
    """The plan that rank 0 wrote.

    Raises:
        HelipError: it is not there.
    """
    path = folder / "plan.json"
    if not path.is_file():
        raise HelipError(f"no plan.json in {folder}: start rank 0 first, or give all ranks a barrier.")
    return json.loads(path.read_text(encoding="utf-8"))


def open_search(pairs: Pairs, folder: Path, settings: SearchSettings, plan: Plan, device: str) -> Search:
    """The search that a plan describes."""
    if plan["backend"] == "exact":
        return ExactSearch(pairs, settings, device=device, scratch=folder)
    if plan["backend"] == "pool":
        return PoolSearch(pairs, settings, device, folder)
    with np.load(folder / "cells.npz") as stored:
        cells = Cells(stored["order"], stored["starts"], stored["near"])
    return ApproximateSearch(pairs, settings, cells, plan["probes"], device, folder)


def measured(pairs: Pairs, settings: SearchSettings, index: HardPairIndex, plan: Plan, device: str) -> dict[str, Any]:
    """`recall` of a finished index that is not exact by construction: what was chosen by it, or a probe of the pool."""
    if plan["backend"] == "exact":
        return {}
    if plan["backend"] == "approximate":
        return {"recall": plan["recall"]}
    rows = probe_rows(pairs, settings)
    truth = ExactSearch(pairs, settings, device=device).search_rows(rows).rows
    recall = interval(overlap(np.asarray(index.rows[rows]), truth), (truth >= 0).sum(axis=1))
    return {"recall": recall.as_dict(), "expected_recall": plan["expected_recall"]}
