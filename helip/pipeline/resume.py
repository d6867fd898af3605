"""Which checkpoint a training goes on from."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helip.errors import HelipError
from helip.pipeline.run import read_json, without_secrets
from helip.training.saving import newest_good

AUTO = "auto"
# Settings of how a run is carried out, not of what it computes: a run goes on under others.
CHECKPOINTS = ("checkpoint_every", "checkpoint_minutes", "keep_checkpoints")
OPERATION = {
    "train": ("resume", "skip_finished", "allow_change", "log_every", "accum_freq", *CHECKPOINTS),
    "data": ("workers", "prefetch"),
    "encoders": ("compile",),
    "trainer": ("accelerator", "devices", "num_nodes", "strategy"),  # precision is another result
}
OPERATION_GROUPS = ("logger", "paths", "mine")


def find_checkpoint(path: Path, warn: Callable[[str], None] = lambda line: None) -> Path:
    """A checkpoint file, or the newest whole one of a run folder.

    Raises:
        HelipError: there is none, or the file is cut off.
    """
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise HelipError(f"{path} is no whole checkpoint: it is cut off; give an older one, or the run folder")
        return path
    found = _newest(path, warn)
    if found is None:
        raise HelipError(f"{path} is neither a checkpoint file nor a run folder with checkpoints/step-*.ckpt")
    return found


def auto_checkpoint(folder: Path, config: dict[str, Any], warn: Callable[[str], None]) -> Path | None:
    """Where train.resume=auto goes on: this run folder, else the latest run with the same settings, unless it finished.

    Args:
        folder: of this run, whose config.json may be written already.
        config: resolved; train.resume and other settings of operation do not count.
        warn: called with a sentence about each checkpoint that is cut off.
    """
    own = _newest(folder, warn)
    if own is not None:
        return own
    wanted = computed(without_secrets(config))
    runs = Path(config["paths"]["runs"])
    others = {*folder.parent.glob("*/config.json"), *runs.glob("*/*/config.json"), *runs.glob("*/*/*/config.json")}
    for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if path.parent.resolve() == folder.resolve() or computed(read_json(path)) != wanted:
            continue
        if (path.parent / "results.json").exists():
            return None
        found = _newest(path.parent, warn)
        if found is not None:
            return found
    return None


def _newest(run: Path, warn: Callable[[str], None]) -> Path | None:
    found, broken = newest_good(run / "checkpoints")
    for path in broken:
        warn(f"{path} is cut off and skipped" + (f": going on from {found.name}" if found else ""))
    return found


def computed(config: Any) -> Any:
    """The configuration without its settings of operation: what decides the weights and the metrics."""
    if not isinstance(config, dict):
        return None
    kept = {name: value for name, value in config.items() if name not in OPERATION_GROUPS}
    if index := config.get("paths", {}).get("index"):  # hard pairs that somebody named; the other paths are places
        kept["index"] = index
    for group, names in OPERATION.items():
        if isinstance(kept.get(group), dict):
            kept[group] = {name: value for name, value in kept[group].items() if name not in names}
    return {name: value for name, value in kept.items() if value != {}}
