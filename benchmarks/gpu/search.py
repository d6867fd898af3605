"""Stage `mining`: an exact search of 3 million generated pairs, some rows checked, beside the released algorithm."""

from time import perf_counter, process_time

import numpy as np
import torch

from benchmarks.gpu.notes import DEPTH, DEVICE, GPU, ROWS, SECONDS, WIDTHS, Notes, generated, wait
from benchmarks.mining import SLICE, bare_products, normalised, released
from helip.mining.exact import ExactSearch
from helip.mining.settings import SearchSettings
from helip.mining.vectors import Pairs, open_pairs
from helip.mining.verify import BLOCK

CHECKED = 2000 if GPU else 100
RIVAL_TARGETS = 100_000  # of the released algorithm, scaled to all


def mining(note: Notes) -> None:
    """Set-up, units of work until the time is over, the check, the rivals."""
    began = perf_counter()
    image, text = (array.cpu().numpy() for array in generated(ROWS, 0))
    if GPU:
        torch.cuda.empty_cache()
    note("generated, s", round(perf_counter() - began, 1))
    began = perf_counter()
    pairs = open_pairs(image, text)
    note("norms, s", round(perf_counter() - began, 1))
    note.attempt("search", lambda: searched(note, pairs))
    if GPU:
        torch.cuda.empty_cache()
    note.attempt("rivals", lambda: rivals(note, image, text))


def searched(note: Notes, pairs: Pairs) -> None:
    """Ours."""
    began = perf_counter()
    search = ExactSearch(pairs, SearchSettings(depth=DEPTH), device=DEVICE)
    wait()
    note("rounded rows and copy for rescoring, s", round(perf_counter() - began, 1))
    note("rounded rows", f"{search.source.dtype}, on the card: {search.source.kept}, {search.shape}")
    note.attempt("units", lambda: units(note, search, len(pairs)))
    note.attempt("checked", lambda: check(search, pairs))
    if GPU:
        note("peak on the card, GiB", round(torch.cuda.max_memory_allocated() / 2**30, 1))


def units(note: Notes, search: ExactSearch, count: int) -> str:
    """Rate of whole units of work, scaled to all targets."""
    unit = search.settings.unit("cuda" if GPU else "cpu")
    search.search(range(min(unit, count)))  # compiles
    began, used, done, redone = perf_counter(), process_time(), 0, 0
    for start in range(0, count, unit):
        found = search.search(range(start, min(start + unit, count)))
        done, redone = done + len(found.rows), redone + found.redone
        if perf_counter() - began > SECONDS:
            break
    seconds = perf_counter() - began
    note("all targets, scaled, s", round(count / done * seconds, 1))
    note("TFLOP/s", round(2 * done * count * sum(WIDTHS) / seconds / 1e12, 1))
    return f"{done:,} of {count:,} targets in {seconds:.1f} s, {process_time() - used:.1f} CPU s, redone {redone}"


def check(search: ExactSearch, pairs: Pairs) -> str:
    """Rows against float64 products of the device, ties apart."""
    rows = np.sort(np.random.default_rng(1).choice(len(pairs), min(CHECKED, len(pairs)), replace=False))
    found = search.search_rows(rows)
    same = 0
    for first in range(0, len(rows), 100):
        some = torch.from_numpy(rows[first : first + 100])
        best = torch.zeros(len(some), 0, dtype=torch.float64, device=DEVICE)
        for start in range(0, len(pairs), BLOCK):
            part = torch.arange(start, min(start + BLOCK, len(pairs)))
            x, y = (unit(v.array, some) @ unit(v.array, part).T for v in pairs.modalities)
            score = torch.where((x > 0) & (y > 0) & (x <= 0.98) & (y <= 0.98), x * y, 0.0)
            score[some.to(DEVICE)[:, None] == part.to(DEVICE)] = 0
            both = torch.cat([best, score], 1)
            best = both.topk(min(DEPTH, both.shape[1]), dim=1).values
        stored = torch.from_numpy(found.scores[first : first + 100]).to(DEVICE)
        same += int(((stored - best).abs() < 1e-6).all(1).sum())
    return f"{same} of {len(rows)} rows have the scores of float64"


def unit(array: np.ndarray, rows: torch.Tensor) -> torch.Tensor:
    """(R, d) float64 rows of length 1 on the device."""
    values = torch.from_numpy(np.asarray(array[rows.numpy()])).to(DEVICE).double()
    return torch.nn.functional.normalize(values)


def rivals(note: Notes, image: np.ndarray, text: np.ndarray) -> None:
    """The released algorithm, restated, and bare products, each on some targets and scaled to all."""
    a, b = normalised(image, DEVICE), normalised(text, DEVICE)
    half = a.half(), b.half()
    for name, run, most in (
        ("released algorithm, restated", lambda rows: released(a, b, rows, DEPTH), RIVAL_TARGETS if GPU else SLICE),
        ("bare products, float16", lambda rows: bare_products(*half, rows), SLICE),
    ):
        rows = range(min(most, len(image)))
        run(range(min(SLICE, len(image))))
        wait()
        began = perf_counter()
        run(rows)
        wait()
        scaled = (perf_counter() - began) * len(image) / len(rows)
        rate = 2 * len(image) ** 2 * sum(WIDTHS) / scaled / 1e12
        note(name, f"{scaled:.1f} s for all targets, scaled from {len(rows):,}; {rate:.1f} TFLOP/s")
