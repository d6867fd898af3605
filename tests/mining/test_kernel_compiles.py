"""The Triton kernels compile for every card in use, without a GPU; where they fail, the search goes on.

An earlier kernel passed under the interpreter and crashed on every card, which only the compiler shows.
"""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from helip.mining import fused, sweep
from helip.mining.exact import ExactSearch
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from tests.mining.results import assert_same

pytest.importorskip("triton")
KERNELS = ["mark joint", "mark image", "mark text", "mark joint, crowd", "mark image, crowd", "mark text, crowd"]
KERNELS += ["count", "list_bits", "bounds"]
# sm_86 and 89 run the code of sm_80 in less shared memory, 100 and 120 are newer: by default one kernel is compiled
QUICK = {(capability, "fp16", name) for capability in (80, 90) for name in KERNELS}
QUICK |= {
    (capability, "bf16", name) for capability in (80, 90) for name in ("mark joint", "mark joint, crowd", "bounds")
}
QUICK |= {(capability, "fp16", "mark joint") for capability in (86, 89, 100, 120)}
EVERY = [(c, dtype, name) for c in (80, 86, 89, 90, 100, 120) for dtype in ("fp16", "bf16") for name in KERNELS]


def marked(one: tuple[int, str, str]) -> Any:
    """A case that is slow unless it is among the quick ones."""
    return pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow, id=f"sm_{one[0]}-{one[1]}-{one[2]}")


@pytest.mark.parametrize(("capability", "dtype", "name"), [marked(one) for one in EVERY])
def test_a_kernel_compiles_ahead_of_time(capability: int, dtype: str, name: str):
    from benchmarks.gpu.compiled import cases, compile_case, usage

    known = [case for case in cases(capability, dtype) if case.name.rsplit(" 128x")[0] == name]
    assert len(known) == 1
    used = usage(compile_case(known[0], capability))
    assert used.problems(known[0], capability) == []
    assert used.stack == 0, "registers are spilled"
    assert used.copies > 0 or not known[0].products, "rows are not copied while others are multiplied"


def test_spills_are_told_from_those_outside_of_loops():
    from benchmarks.gpu.compiled import spills_in_loops

    code = (
        "/*0010*/ STL [R1], R2 ; /*0020*/ LDL R2, [R1] ; /*0030*/ HMMA R4 ; /*0040*/ @P0 BRA 0x20 ; /*0050*/ STL [R1] ;"
    )
    assert spills_in_loops(code) == 1
    assert spills_in_loops(code.replace("LDL", "LDS")) == 0


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_old_cards_take_plain_products(monkeypatch, capability: tuple[int, int]):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(fused, "broken", [])
    assert fused.can_fuse(torch.device("cuda"), torch.float16) == (capability >= (8, 0))
    assert not fused.can_fuse(torch.device("cuda"), torch.float32) and not fused.can_fuse(
        torch.device("cpu"), torch.float16
    )
    monkeypatch.setattr(fused, "broken", ["it failed"])
    assert not fused.can_fuse(torch.device("cuda"), torch.float16)


def test_a_kernel_that_does_not_compile_warns_once_and_gives_the_same_hard_pairs(monkeypatch):
    draw = np.random.default_rng(0)
    image, text = (draw.normal(size=(5000, 16)).astype(np.float32) for _ in (0, 1))
    settings = SearchSettings(depth=5)
    expected = ExactSearch(open_pairs(image, text), settings, torch.bfloat16).search(range(64))
    tried = []

    def broken(*arguments: Any) -> None:
        tried.append(arguments)
        raise RuntimeError("PassManager::run failed\nand more lines")

    monkeypatch.setattr(fused, "broken", [])
    monkeypatch.setattr(sweep, "can_fuse", lambda device, dtype: not fused.broken)
    monkeypatch.setattr(fused, "mark", broken)
    search = ExactSearch(open_pairs(image, text), settings, torch.bfloat16)
    search.workers.threads = 1
    with pytest.warns(UserWarning, match=r"PassManager::run failed\): the search goes on"):
        found = search.search(range(64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = search.search(range(64))
    assert len(tried) == 1
    for ranked in (found, again):
        assert_same(ranked, expected)
