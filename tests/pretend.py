"""A pretend GPU: tensors whose device is "cuda:0", and which compute on the CPU.

Operations between devices are refused, and those that wait for the device are counted. Unlike fake tensors, these have
values, so that code runs whose shapes depend on values.
"""

from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class Pretend(torch.Tensor):
    """A tensor on the pretend GPU; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Pretend":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device("cuda:0"),
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Pretend({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function} on the pretend GPU, outside of `pretend_gpu` or in another thread")


class Device(TorchDispatchMode):
    """Runs operations on the pretend GPU.

    Attributes:
        waits: names of the operations that waited for the device, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {}) | ({"pin_memory": False} if "pin_memory" in (kwargs or {}) else {})
        if function == aten._fused_sdp_choice.default:
            return 0  # attention by plain products: the fused forms of a GPU have no CPU kernel
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, Pretend)]
        asked = kwargs.get("device")
        on_gpu = bool(there) if asked is None else torch.device(asked).type == "cuda"
        if on_gpu and asked is not None:
            kwargs["device"] = torch.device("cpu")
        if function not in (aten._to_copy.default, aten.copy_.default):
            _same_device(function, args, tensors, there)
        elif function == aten.copy_.default:
            on_gpu = isinstance(args[0], Pretend)
        if there:
            self._note(function, args, on_gpu)
        inner = {id(tensor.inner): tensor for tensor in there}
        args, kwargs = tree_map(lambda leaf: leaf.inner if isinstance(leaf, Pretend) else leaf, (args, kwargs))
        out = function(*args, **kwargs)

        def wrapped(leaf: Any) -> Any:
            if not on_gpu or not isinstance(leaf, torch.Tensor):
                return leaf
            return inner[id(leaf)] if id(leaf) in inner else Pretend(leaf)

        return tree_map(wrapped, out)

    def _note(self, function: Any, args: Any, on_gpu: bool) -> None:
        by_mask = function in INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        if function in WAITING or by_mask or not on_gpu:
            self.waits.append(str(function))


def _same_device(function: Any, args: Any, tensors: list[torch.Tensor], there: list[Pretend]) -> None:
    """As on a GPU numbers and, for rows on the GPU, indices may lie on the CPU."""
    if function in INDEXING and isinstance(args[0], Pretend):
        tensors = [args[0]]
    elsewhere = [tensor for tensor in tensors if not isinstance(tensor, Pretend) and tensor.dim() > 0]
    alone = [tensor for tensor in tensors if not isinstance(tensor, Pretend)]
    if there and (elsewhere or (alone and all(tensor.dim() == 0 for tensor in there))):
        raise RuntimeError(f"{function}: expected all tensors to be on the same device, found cuda:0 and cpu")


@contextmanager
def pretend_gpu(monkeypatch: Any, capability: tuple[int, int] = (7, 5), memory: int = 1 << 30):
    """A machine with a pretend GPU, for one thread: pools of threads run in the thread of the caller.

    Args:
        capability: of the card; Triton's kernels, which cannot run here, ask for (8, 0).
        memory: free bytes.

    Yields:
        the `Device`.
    """
    nothing = lambda *args, **kwargs: None  # noqa: E731
    context = lambda *args, **kwargs: nullcontext()  # noqa: E731
    stand_ins: dict[str, Any] = {
        "_lazy_init": nothing, "synchronize": nothing, "empty_cache": nothing, "device": context, "stream": context,
        "Stream": nothing, "memory_reserved": lambda device: 0, "memory_allocated": lambda device: 0,
        "mem_get_info": lambda device: (memory, memory), "get_device_capability": lambda device=None: capability,
    }  # fmt: skip
    # as fake tensors do; otherwise torch asks for a driver, and torch.tensor bypasses the mode
    torch._C._ensureCUDADeviceGuardSet()
    before = torch._C._only_lift_cpu_tensors(), torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # otherwise `inner` is lost when a module moves
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr("helip.mining.workers.Workers.map", lambda self, function, items: list(map(function, items)))
    try:
        with Device() as device:
            yield device
    finally:
        torch._C._set_only_lift_cpu_tensors(before[0])
        torch.__future__.set_overwrite_module_params_on_conversion(before[1])
