"""Reading, exporting and interpolating weights: checkpoints of Lightning and open_clip, plain state dicts."""

import argparse
import codecs
import collections
import datetime
import pathlib
import pickle
import re
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from helip.artifacts.atomic import atomic_file
from helip.errors import HelipError

# Prefixes of wrappers: DDP (open_clip epochs), torch.compile, our LightningModule.
PREFIXES = ("module.", "_orig_mod.", "model.")
# Keys of the state dict in files of other programs, in search order.
NESTED = ("state_dict", "model_state_dict", "model_state", "model", "module", "net")
# Harmless objects beside the weights in files of other programs; SLIP stores its command line.
HARMLESS = [
    argparse.Namespace,
    types.SimpleNamespace,
    collections.Counter,
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    np.dtype,
    np.ndarray,
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
    np._core.multiarray.scalar,  # pyright: ignore[reportAttributeAccessIssue]
    np._core.multiarray._reconstruct,  # pyright: ignore[reportAttributeAccessIssue]
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # pyright: ignore[reportAttributeAccessIssue]
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # pyright: ignore[reportAttributeAccessIssue]
    codecs.encode,  # the bytes of a numpy scalar
]
UNSAFE = re.compile(r"GLOBAL ([\w.]+)|but got <class '([\w.]+)'>")
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def read_checkpoint(path: Path | str, mmap: bool = False) -> dict[str, Any]:
    """The dict of a checkpoint or .safetensors file, on the CPU, read without running its code (weights_only).

    Args:
        path: of the file.
        mmap: read tensors from the disk when they are used.

    Raises:
        HelipError: the file is missing or truncated, or holds other objects than tensors and plain data.
    """
    if not Path(path).is_file():
        raise HelipError(f"there is no checkpoint at {path}: give the path of a file")
    if _is_torchscript(path):
        raise HelipError(
            f"{path} is a TorchScript archive, which contains code: load OpenAI's models by their tag,"
            " model.pretrained=openai; save others as a state dict"
        )
    try:
        if Path(path).suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        with torch.serialization.safe_globals(HARMLESS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    except (RuntimeError, EOFError, OSError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise HelipError(_unreadable(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise HelipError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint: give a state dict")
    return checkpoint


def _unreadable(path: Path | str, error: Exception) -> str:
    """A message with the object beside the weights that torch refuses, or with the first line of its error."""
    if found := UNSAFE.search(str(error)):
        return (
            f"{path} holds a {found[1] or found[2]} beside its weights, which is not loaded because it may run code: "
            "save its state dict alone, by torch.save(checkpoint['state_dict'], FILE)"
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    reason = "".join(letter for letter in ESCAPES.sub("", reason) if letter.isprintable())
    return f"{path} cannot be read as a checkpoint ({reason[:120]}): it is cut off or no torch file"


def _is_torchscript(path: Path | str) -> bool:
    """Whether the archive holds the file by which torch recognises TorchScript."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def clip_state(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The open_clip state dict inside a checkpoint: ours, an open_clip epoch, SLIP's, or a plain state dict."""
    nested = next((checkpoint[key] for key in NESTED if _is_state(checkpoint.get(key))), checkpoint)
    state = {name: value for name, value in nested.items() if isinstance(value, torch.Tensor)}
    while prefix := next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return from_slip(state) if "image_projection" in state else state


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(tensor, torch.Tensor) for tensor in value.values())


def described(checkpoint: Mapping[str, Any]) -> str:
    """What kind of weights a checkpoint holds, in words."""
    state = clip_state(checkpoint)
    if any(name.startswith(("vision_model.", "text_model.")) for name in state):
        return "weights of a transformers CLIP"
    if not state:
        return "a file without weights"
    if "epoch" in checkpoint and "optimizer" in checkpoint:
        return f"an epoch of another trainer, such as open_clip's (epoch {checkpoint['epoch']!s:.9})"
    return "weights alone" if checkpoint.keys().isdisjoint(NESTED) else "weights of another program"


def from_slip(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename weights of facebookresearch/SLIP to open_clip's names with a timm image tower (slip_vit_b_16).

    SLIP's image tower is timm's ViT under `visual.`. Its projection is (width, embedding), the transpose of a Linear.
    `image_mlp`, the head of its self-supervised loss, is dropped.
    """
    renamed = {}
    for name, value in state.items():
        if name == "image_projection":
            renamed["visual.head.proj.weight"] = value.T.contiguous()
        elif name.startswith("visual."):
            renamed[f"visual.trunk.{name.removeprefix('visual.')}"] = value
        elif not name.startswith("image_mlp."):
            renamed[name] = value
    return renamed


def load_clip_weights(model: nn.Module, path: Path | str) -> None:
    """Copy the weights in `path` into a model. Raises HelipError as `read_checkpoint` and `load_state` do."""
    load_state(model, clip_state(read_checkpoint(path)), str(path))


def load_state(model: nn.Module, state: dict[str, torch.Tensor], path: str) -> None:
    """Copy weights with open_clip's names into a model. Raises HelipError if names or shapes differ."""
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):  # () in some releases of open_clip, (1,) in others
        if name in state and name in own and state[name].numel() == own[name].numel() == 1:
            state[name] = state[name].reshape(own[name].shape)
    if "logit_bias" in own:  # a CLIP that continues with SigLIP's loss keeps the model's initial bias
        state.setdefault("logit_bias", own["logit_bias"])
    wrong = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "of another shape": [name for name in own if name in state and state[name].shape != own[name].shape],
    }
    if any(wrong.values()):
        details = "; ".join(f"{len(names)} {kind}, e.g. {names[0]}" for kind, names in wrong.items() if names)
        raise HelipError(
            f"{path} ({described(state)}) does not fit the model ({details}): set model.name to that of these weights"
        )
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise HelipError(
            f"{len(broken)} of the {len(state)} weights in {path} are not finite, e.g. {broken[0]}: the training that "
            "wrote them has diverged; take an earlier checkpoint"
        )
    model.load_state_dict(state)


def export_clip(source: nn.Module | Mapping[str, Any], path: Path | str, dtype: torch.dtype | None = None) -> Path:
    """Atomically write a plain state dict for open_clip.create_model(name, pretrained=path). Returns the path.

    `source` is an open_clip model, a module with one as `model`, a checkpoint or a state dict.
    """
    state = clip_state(source.state_dict() if isinstance(source, nn.Module) else source)
    cast = {
        name: (value.to(dtype) if dtype and value.is_floating_point() and value.numel() > 1 else value)
        .detach()
        .cpu()
        .clone()  # saving a view would save its whole storage
        for name, value in state.items()
    }
    with atomic_file(Path(path)) as temporary:
        torch.save(cast, temporary)
    return Path(path)


def interpolate(start: Mapping[str, Any], end: Mapping[str, Any], alpha: float) -> dict[str, torch.Tensor]:
    """(1 - alpha) * start + alpha * end of two checkpoints' weights (WiSE-FT, arXiv 2109.01903), in float32.

    Integer tensors (buffers) come from `end`. alpha 0 and 1 give start and end exactly. Raises HelipError if names or
    shapes differ.
    """
    first, second = clip_state(start), clip_state(end)
    differing = first.keys() ^ second.keys()
    differing |= {name for name in first.keys() & second.keys() if first[name].shape != second[name].shape}
    if differing:
        raise HelipError(
            f"{len(differing)} weights differ in name or shape, e.g. {min(differing)}: interpolate within one model"
        )
    return {
        name: ((1 - alpha) * first[name].float() + alpha * b.float()).to(b.dtype) if b.is_floating_point() else b
        for name, b in second.items()
    }
