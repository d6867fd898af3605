"""Compiles every kernel in every form that can be launched; needs no GPU.

Triton's interpreter models no registers, layouts or shared memory: a kernel can be correct in it and crash on every
card. Triton's compiler and its `cuobjdump` show what a card would run.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from helip.mining import fused, kernels
from helip.mining.bounds import looped_width, padded_width

WIDTHS = {"384 + 768": (384, 768), "500 + 333": (500, 333)}  # the default encoders'; a partly filled last step
SHARED = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KiB a block may have (CUDA C++ Programming Guide)
CAPABILITIES = tuple(SHARED)
DTYPES = ("fp16", "bf16")
TENSOR_CORES = r"\b(HGMMA|HMMA|UTC\w*MMA)\b"
COPIES = r"\b(UTMALDG|LDGSTS)\b"


@dataclass(frozen=True)
class Case:
    """A kernel as it is launched.

    Attributes:
        name: in the table.
        kernel: the function of `helip.mining.kernels`.
        types: of the arguments that are not constants.
        constants: the other arguments.
        launch: num_warps and num_stages, if not the default.
        products: whether it needs tensor cores.
    """

    name: str
    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    launch: dict[str, int]
    products: bool


@dataclass(frozen=True)
class Usage:
    """Resources of a compiled kernel."""

    registers: int
    stack: int
    shared: int
    tensor_cores: int
    copies: int
    spills_in_loop: int

    def problems(self, case: Case, capability: int) -> list[str]:
        """Reasons not to launch it in this form."""
        found = [f"{self.spills_in_loop} spills in a loop"] if self.spills_in_loop else []
        if self.shared > SHARED[capability] << 10:
            found.append(f"{self.shared} B of shared memory, the card has {SHARED[capability] << 10}")
        if case.products and not self.tensor_cores:
            found.append("no tensor-core instruction")
        return found


def cases(capability: int, dtype: str, widths: tuple[int, int] = WIDTHS["384 + 768"]) -> Iterator[Case]:
    """The kernels that a search launches on a card.

    Args:
        capability: such as 90.
        dtype: "fp16" or "bf16".
        widths: d_I and d_T.
    """
    launched = [(0, 3, 0), (1, 1, 0), (2, 2, 0), (0, 3, 1), (1, 3, 1), (2, 3, 1)]  # score, sides, crowd
    for score, sides, crowd in launched:
        form = fused.form_of(divmod(capability, 10), sides, bool(crowd))
        tiles = form.tiles
        constants = {
            "SCORE": score, "SIDES": sides, "CROWD": crowd, **tiles,
            "WIDTH_IMAGE": looped_width(widths[0]), "WIDTH_TEXT": looped_width(widths[1]),
            "STRIDE_IMAGE": padded_width(widths[0], 64), "STRIDE_TEXT": padded_width(widths[1], 64),
        }  # fmt: skip
        types = {"limits": "*fp32", "own_groups": "*i32", "groups": "*i32", "out": "*i32", "S": "i32", "C": "i32"}
        types |= {"low_image": "fp32", "low_text": "fp32"}
        for names, rows in ((("own_image", "own_text"), tiles["BM"]), (("image", "text"), tiles["BN"])):
            block = f"tensordesc<{dtype}[{rows}, {tiles['BK']}]>" if tiles["TMA"] else f"*{dtype}"
            types |= dict.fromkeys(names, block)
        what = f"mark {('joint', 'image', 'text')[score]}{', crowd' if crowd else ''}"
        name = f"{what} {tiles['BM']}x{tiles['BN']}x{tiles['BK']}{' TMA' if tiles['TMA'] else ''}"
        yield Case(name, kernels.mark, types, constants, form.launch, True)
    words = dict.fromkeys(("bits", "place", "counts", "starts", "out_target", "out_column"), "*i32")
    yield Case("count", kernels.count, {**words, "S": "i32", "C": "i32"}, dict(fused.COUNTED), {}, False)
    yield Case("list_bits", kernels.list_bits, {**words, "C": "i32"}, dict(fused.LISTED), {}, False)
    types = {"own": f"*{dtype}", "side": f"*{dtype}", "add": "*fp32", "target": "*i32", "column": "*i32"}
    constants = {"WIDTH": looped_width(widths[0]), "STRIDE": padded_width(widths[0], 64), **fused.PAIRS}
    yield Case("bounds", kernels.bounds, {**types, "out": "*fp32", "F": "i32"}, constants, {}, False)


def compile_case(case: Case, capability: int) -> Any:
    """Triton's compiled kernel; pointers are multiples of 16 bytes, as torch's are.

    Raises:
        Exception: whatever Triton's compiler raises.
    """
    names = case.kernel.arg_names
    signature = {name: "constexpr" if name in case.constants else case.types[name] for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(case.kernel, signature, case.constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(case.launch))


def usage(compiled: Any) -> Usage:
    """Resources and instructions, as cuobjdump lists them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        resources, code = (_cuobjdump(option, file.name) for option in ("-res-usage", "-sass"))
    registers, stack = (int(re.search(rf"{name}:(\d+)", resources)[1]) for name in ("REG", "STACK"))  # type: ignore[index]
    products, copies = (len(re.findall(pattern, code)) for pattern in (TENSOR_CORES, COPIES))
    return Usage(registers, stack, compiled.metadata.shared, products, copies, spills_in_loops(code))


def _cuobjdump(option: str, path: str) -> str:
    program = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return subprocess.run([program, option, path], capture_output=True, text=True, check=True).stdout


def spills_in_loops(code: str) -> int:
    """Number of loads and stores of local memory between a backward branch and its target."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", code)
    spills = [int(at, 16) for at, what in lines if re.search(r"\b(LDL|STL)\b", what)]
    loops: list[tuple[int, int]] = []
    for at, what in lines:
        goal = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", what)
        if goal and int(goal[1], 16) < int(at, 16):
            loops.append((int(goal[1], 16), int(at, 16)))
    return sum(any(first <= spill <= last for first, last in loops) for spill in spills)
