"""Weights in and out: Lightning and open_clip checkpoints, a plain open_clip export, interpolation."""

import argparse
import codecs
import collections
import datetime
import os
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

from helip.errors import HelipError

# Wrappers that leave their name before every key: DDP (open_clip epochs), torch.compile, our LightningModule.
PREFIXES = ("module.", "_orig_mod.", "model.")
# Keys under which other programs keep the state dict, in the order in which they are looked for.
NESTED = ("state_dict", "model_state_dict", "model_state", "model", "module", "net")
# What stands beside weights in other programs' files and does nothing when it is read. SLIP's hold their command line.
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
    """The dict of a checkpoint or .safetensors file, on the CPU, read without running code of it (weights_only).

    Args:
        path: of the file.
        mmap: read tensors from the disk when they are used.

    Raises:
        HelipError: if the file is missing, truncated, or holds anything but tensors and plain data.
    """
    if not Path(path).is_file():
        raise HelipError(f"there is no checkpoint at {path}: give the path of a file")
    if _is_torchscript(path):
        raise HelipError(
            f"{path} is a TorchScript archive, a program beside its weights: OpenAI's models load by their tag,"
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
    """Why torch refuses a file: the name of an object beside the weights, else the first line of torch's error."""
    if found := UNSAFE.search(str(error)):
        return (
            f"{path} holds a {found[1] or found[2]} beside its weights, and nothing of a file is run to read it: save "
            "its state dict alone, by torch.save(checkpoint['state_dict'], FILE)"
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
    """Names of facebookresearch/SLIP's CLIP and SLIP models -> open_clip's with a timm image tower (slip_vit_b_16).

    Its image tower is timm's ViT under `visual.`, its projection is written (width, embedding) where a Linear wants the
    transpose, and `image_mlp` is the head of its self-supervised loss, which has no use here.
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
    """Copy the weights in `path` into an open_clip model, all of them, cast to the model's types.

    Raises:
        HelipError: as `read_checkpoint`, or if names or shapes are not those of the model.
    """
    load_state(model, clip_state(read_checkpoint(path)), str(path))


def load_state(model: nn.Module, state: dict[str, torch.Tensor], path: str) -> None:
    """Copy weights by open_clip's names into a model. Raises HelipError if names or shapes are not the model's."""
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):  # () in some releases of open_clip, (1,) in others
        if name in state and name in own and state[name].numel() == own[name].numel() == 1:
            state[name] = state[name].reshape(own[name].shape)
    if "logit_bias" in own:  # a CLIP that goes on with SigLIP's loss starts from the bias that the model was made with
        state.setdefault("logit_bias", own["logit_bias"])
    wrong = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "of another shape": [name for name in own if name in state and state[name].shape != own[name].shape],
    }
    if any(wrong.values()):
        details = "; ".join(f"{len(names)} {kind}, e.g. {names[0]}" for kind, names in wrong.items() if names)
        raise HelipError(
            f"{path} ({described(state)}) does not fit the model ({details}): choose the model it was trained with"
        )
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise HelipError(
            f"{len(broken)} of the {len(state)} weights in {path} are not finite, e.g. {broken[0]}: the training that "
            "wrote it has diverged; take an earlier checkpoint"
        )
    model.load_state_dict(state)


def export_clip(source: nn.Module | Mapping[str, Any], path: Path | str, dtype: torch.dtype | None = None) -> Path:
    """Write a plain state dict that open_clip.create_model(name, pretrained=path) loads, atomically.

    Args:
        source: an open_clip model, a module that holds one as `model`, or a checkpoint or state dict.
        path: file to write.
        dtype: of the floating tensors, None to keep theirs. Scalars keep theirs: the temperature clamp is tighter than
            float16.
    """
    state = clip_state(source.state_dict() if isinstance(source, nn.Module) else source)
    cast = {
        name: (value.to(dtype) if dtype and value.is_floating_point() and value.numel() > 1 else value)
        .detach()
        .cpu()
        .clone()  # a view would drag its whole storage into the file
        for name, value in state.items()
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(cast, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def interpolate(start: Mapping[str, Any], end: Mapping[str, Any], alpha: float) -> dict[str, torch.Tensor]:
    """(1 - alpha) * start + alpha * end of two checkpoints' weights (WiSE-FT, arXiv 2109.01903), in float32.

    Tensors of integers (buffers) are taken from `end`. alpha 0 and 1 give start and end exactly.

    Raises:
        HelipError: if names or shapes differ.
    """
    first, second = clip_state(start), clip_state(end)
    differing = {n for n in first.keys() | second.keys() if n not in first or n not in second}
    differing |= {n for n in first.keys() & second.keys() if first[n].shape != second[n].shape}
    if differing:
        raise HelipError(
            f"{len(differing)} weights differ in name or shape, e.g. {min(differing)}: interpolate within one model"
        )
    mixed = {}
    for name, b in second.items():
        a = first[name]
        mixed[name] = ((1 - alpha) * a.float() + alpha * b.float()).to(b.dtype) if b.is_floating_point() else b
    return mixed
