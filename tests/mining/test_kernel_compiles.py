"""The Triton kernel compiles for every card in use, without a GPU; where it fails, the search goes on.

An earlier kernel passed the interpreter and crashed on every card: only the compiler sees that.
"""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from helip.mining import sweep
from helip.mining.exact import ExactSearch
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs

triton = pytest.importorskip("triton")

POINTERS = {
    "threshold": "*fp32", "own": "*i32", "counts": "*i32",
    "out_column": "*i32", "out_image": "*fp32", "out_text": "*fp32",
}  # fmt: skip
CONSTANTS = {"WIDTH_IMAGE": 416, "WIDTH_TEXT": 800, "ROOM": 1024}  # 384 + 768, the default encoders


@pytest.mark.parametrize("capability", [80, 86, 89, 90])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_the_kernel_compiles_ahead_of_time(capability: int, dtype: str):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from helip.mining import kernels

    tiles = {name: value for name, value in kernels.TILES.items() if name != "num_warps"}
    constants = {"SCORE": 0, **CONSTANTS, **tiles}
    types = {"S": "i32", "C": "i32", "low_image": "fp32", "low_text": "fp32"} | POINTERS
    types |= dict.fromkeys(("own_image", "own_text", "image", "text"), f"*{dtype}")
    kernel: Any = kernels._survivors
    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    compiled = triton.compile(
        ASTSource(kernel, signature, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": kernels.TILES["num_warps"]},
    )
    assert "mma" in compiled.asm["ptx"], "no tensor-core instruction"


def test_a_kernel_that_does_not_compile_warns_once_and_gives_the_same_hard_pairs(monkeypatch):
    from helip.mining import kernels

    draw = np.random.default_rng(0)
    image, text = (draw.normal(size=(5000, 16)).astype(np.float32) for _ in (0, 1))
    settings = SearchSettings(depth=5)
    expected = ExactSearch(open_pairs(image, text), settings, torch.bfloat16).search(range(64))
    tried = []

    def broken(*arguments: Any) -> None:
        tried.append(arguments)
        raise RuntimeError("PassManager::run failed\nand more lines")

    monkeypatch.setattr(sweep, "_broken", [])
    monkeypatch.setattr(sweep.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(sweep, "can_fuse", lambda device, dtype: not sweep._broken)
    monkeypatch.setattr(kernels, "fused_survivors", broken)
    search = ExactSearch(open_pairs(image, text), settings, torch.bfloat16)
    search.workers.threads = 1
    with pytest.warns(UserWarning, match=r"PassManager::run failed\): the search goes on"):
        found = search.search(range(64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = search.search(range(64))
    assert len(tried) == 1
    for ranked in (found, again):
        np.testing.assert_array_equal(ranked.rows, expected.rows)
        np.testing.assert_array_equal(ranked.scores, expected.scores)
