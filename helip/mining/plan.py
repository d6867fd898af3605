"""The decisions that all ranks and restarts share: the backend, its cells, and how many cells a target is searched in.

They lie in plan.json and the .npz files beside it, in the folder of the finished blocks.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from helip.artifacts.arrays import read_archive, write_archive
from helip.artifacts.atomic import write_json
from helip.artifacts.hard_pairs import HardPairIndex
from helip.errors import HelipError
from helip.mining.approximate import MOST, ApproximateSearch, Work, choose_work
from helip.mining.bounds import RowSource
from helip.mining.cells import Cells, build_cells
from helip.mining.estimate import choose, gemm_rate
from helip.mining.exact import ExactSearch, fast_dtype
from helip.mining.pool import PoolSearch
from helip.mining.probe import interval, overlap, probe_rows
from helip.mining.rescore import Ranked
from helip.mining.settings import BACKENDS, SearchSettings
from helip.mining.sweep import Tick
from helip.mining.vectors import Pairs

# The best number of cells is about the number of clusters in the data, which is unknown. For recall 0.99 on 200,000
# pairs in 2,000 clusters a search looked at 73 % of all pairs with sqrt(N) cells and at 0.1 % with 4 sqrt(N); with 500
# clusters at 0.3 % for both. Fewer cells give larger matrix products and take less time to cluster.
SIZES = (1, 4)  # numbers of cells that are tried, in sqrt(N)
ENOUGH = 0.03  # share of all pairs at which no further number is tried
Plan = dict[str, Any]


class Search(Protocol):
    """A search backend."""

    @property
    def name(self) -> str:
        """Name of the backend."""
        ...

    @property
    def order(self) -> np.ndarray | None:
        """(N,) row at each place of the search; None: the places are the rows."""
        ...

    def search(self, places: range, tick: Tick) -> Ranked:
        """The hard pairs of the rows at consecutive places."""
        ...

    def edges(self, unit: int) -> list[int]:
        """0, the ends of units of work of about `unit` places, N."""
        ...

    def cost(self, places: range) -> int:
        """Pairs that `search` will look at."""
        ...


def make_plan(pairs: Pairs, folder: Path, settings: SearchSettings, device: str) -> RowSource | None:
    """Write plan.json and the files of an inexact search into the folder of finished blocks, unless it is there.

    Returns:
        The rounded rows, if the plan needed them, for the search to use again.
    """
    path = folder / "plan.json"
    if path.is_file():
        return None
    width, count = pairs.image.width + pairs.text.width, int(pairs.valid.sum())
    rate = gemm_rate(torch.device(device)) if device != "cpu" and settings.backend == "auto" else None
    backend, reason = choose(settings, count, width, rate)
    plan: Plan = {"backend": backend, "reason": reason}
    source = None
    if backend == "approximate":
        source = _plan_cells(pairs, folder, settings, device, plan)
    if settings.own_backend:
        own_search(backend)  # a mistyped name is an error now, not after the probe
    if settings.own_backend or backend == "pool":
        _probe(pairs, folder, settings, device, None)
    if backend == "pool":
        plan["expected_recall"] = min(1.0, settings.pool_size / count)
    write_json(path, plan)
    return source


def _plan_cells(pairs: Pairs, folder: Path, settings: SearchSettings, device: str, plan: Plan) -> RowSource | None:
    """Write cells and probed rows into the folder, and add the decisions to the plan; returns the rounded rows."""
    plan["dtype"] = str(fast_dtype(torch.device(device))).removeprefix("torch.")
    probed = source = None
    tried: list[tuple[Work, Cells]] = []
    for size in SIZES:
        cells = build_cells(pairs, settings, size, device)
        del source  # only one is in memory
        source = _rounded(pairs, settings, cells, device, folder, plan)
        probed = probed or _probe(pairs, folder, settings, device, source)
        tried.append((choose_work(pairs, settings, cells, *probed), cells))
        if tried[-1][0].share <= ENOUGH:
            break
    work, cells = min(tried, key=lambda known: known[0].share)
    if not work.probes:
        raise HelipError(
            f"the approximate search cannot reach search.min_recall={settings.min_recall}, because its recall is "
            f"{work.recall} when it looks at up to {MOST:.0%} of all pairs: use search.backend=exact or a lower "
            "search.min_recall."
        )
    plan |= {"cells": len(cells.starts) - 1, "probes": work.probes, "strays": work.strays}
    plan["share_of_pairs"] = round(work.share, 4)
    write_archive(folder / "cells.npz", **vars(cells.with_strays(work.strays)))
    return source if cells is tried[-1][1] else None


def _probe(
    pairs: Pairs, folder: Path, settings: SearchSettings, device: str, source: RowSource | None
) -> tuple[np.ndarray, np.ndarray]:
    """Some rows and their true hard pairs, (R,) and (R, K); stored to measure the recall of the finished index."""
    rows = probe_rows(pairs, settings)
    truth = ExactSearch(pairs, settings, device=device, scratch=folder, source=source).search_rows(rows).rows
    write_archive(folder / "probe.npz", rows=rows, truth=truth)
    return rows, truth


def _rounded(pairs: Pairs, settings: SearchSettings, cells: Cells, device: str, folder: Path, plan: Plan) -> RowSource:
    dtype = getattr(torch, plan["dtype"])
    return RowSource(pairs, dtype, settings.memory, torch.device(device), cells.order, folder)


def read_plan(folder: Path) -> Plan:
    """The plan that rank 0 wrote.

    Raises:
        HelipError: it is not there, or is damaged.
    """
    path = folder / "plan.json"
    if not path.is_file():
        raise HelipError(f"no plan.json in {folder}: start rank 0 first, or give all ranks a barrier.")
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["backend"] not in BACKENDS and "." not in plan["backend"]:
            raise ValueError(f"it names the backend {plan['backend']}")
        return plan
    except (ValueError, TypeError, LookupError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> HelipError:
    return HelipError(f"{path} is damaged ({error}): delete {path.parent} and start the same command again")


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_archive(path)
    except ValueError as error:
        raise _damaged(path, error) from error


def open_search(
    pairs: Pairs, folder: Path, settings: SearchSettings, plan: Plan, device: str, source: RowSource | None
) -> Search:
    """The search that a plan describes; `source` is the return value of `make_plan`."""
    if plan["backend"] == "exact":
        return ExactSearch(pairs, settings, device=device, scratch=folder)
    if plan["backend"] == "pool":
        return PoolSearch(pairs, settings, device, folder)
    if settings.own_backend:
        return own_search(plan["backend"])(pairs, settings, device, folder)
    cells = Cells(**_read(folder / "cells.npz"))
    if source is None:
        source = _rounded(pairs, settings, cells, device, folder, plan)
    return ApproximateSearch(pairs, settings, cells, plan["probes"], source)


def own_search(name: str) -> Callable[[Pairs, SearchSettings, str, Path], Search]:
    """The class that search.backend names. Raises HelipError where there is none."""
    module, _, cls = name.rpartition(".")
    try:
        return getattr(import_module(module), cls)
    except (ImportError, AttributeError, ValueError) as error:
        raise HelipError(
            f"search.backend={name} cannot be imported ({error}): check the name and PYTHONPATH"
        ) from error


def measured(folder: Path, index: HardPairIndex, plan: Plan) -> dict[str, Any]:
    """Recall of a finished index of an inexact backend, measured on the probed rows."""
    if plan["backend"] == "exact":
        return {}
    probe = _read(folder / "probe.npz")
    rows, truth = probe["rows"], probe["truth"]
    recall = interval(overlap(np.asarray(index.rows[rows]), truth), (truth >= 0).sum(axis=1))
    expected = {"expected_recall": plan["expected_recall"]} if "expected_recall" in plan else {}
    return {"recall": {name: round(value, 6) for name, value in recall._asdict().items()}, **expected}
