"""Lightning's logger of metrics.csv."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import Logger

from helip.artifacts.metrics_file import MetricsFile, read_lines
from helip.training.run_files import LOG


class MetricsLog(Logger):
    """Appends each logged step to metrics.csv of the run folder; for rank 0 only.

    A training step has its number from 0, an evaluation the number of steps before it.
    """

    def __init__(self, run: Path) -> None:
        self._run, self._file = run, MetricsFile(run / LOG)
        self._ahead: tuple[int | None, set[str]] = None, set()

    @property
    def name(self) -> str:
        """Required by Lightning; the run folder needs none."""
        return ""

    @property
    def version(self) -> str:
        """Required by Lightning, as `name`."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder, where Lightning's own callbacks and profilers write."""
        return str(self._run)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing, because the settings are in config.json."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append a line, unless `ahead` has written it."""
        if (step, set(metrics)) != self._ahead:
            line = {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in metrics.items()}
            self._file.append({**line, "step": step})

    def ahead(self, metrics: Mapping[str, torch.Tensor], step: int, epoch: int) -> None:
        """Append the line of a step that Lightning logs after the callbacks; its own call then adds nothing."""
        self.log_metrics({**metrics, "epoch": epoch}, step)
        self._ahead = step, {*metrics, "epoch"}

    def go_on(self, step: int, run: Path) -> None:
        """Begin with the lines that a run wrote before the checkpoint of `step`, from which this training resumes.

        The file of `run` stays as it is if `run` is another run folder.
        """
        kept = []
        for line in read_lines(run / LOG):
            number = int(line.get("step", step + 1))
            if number < step or (number == step and not any(name.startswith("train/") for name in line)):
                kept.append(line)
        self._file.replace(kept)
