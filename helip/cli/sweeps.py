"""Hydra's callback: no credentials in Hydra's files; the status of each job of a multirun, and one table of all."""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from helip.artifacts.atomic import write_text
from helip.cli.sentences import sentence
from helip.secrets import override_without_secrets, without_secrets


def started_by_launcher() -> bool:
    """Whether Lightning, torchrun or srun started this process as one rank of several."""
    return "LOCAL_RANK" in os.environ or "RANK" in os.environ


def hide_secrets(folder: Path) -> None:
    """Rewrite the YAML files in a folder that contain credentials in addresses, or settings named like secrets."""
    for path in folder.glob("*.yaml"):
        written = OmegaConf.load(path)
        hidden = OmegaConf.create(without_secrets(OmegaConf.to_container(written), override_without_secrets))
        if (text := OmegaConf.to_yaml(hidden)) != OmegaConf.to_yaml(written):
            write_text(path, text)


class SweepTable(Callback):
    """Hides credentials; writes status.json into the folder of each job; prints the table when the jobs have ended.

    A launcher such as submitit's runs the jobs, and calls `on_job_*`, in other processes than `on_multirun_*`.
    """

    running: ClassVar[Path | None] = None  # the folder of this process's multirun, until its table is printed

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the folder, because Hydra does not call `on_multirun_end` when a job is interrupted."""
        if not started_by_launcher():  # otherwise each rank would print the table
            SweepTable.running = Path(config.hydra.sweep.dir).absolute()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table. Exit status 1 if a job has no result; Hydra turns any other exception into a warning."""
        if not self.print():
            sys.exit(1)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Hide credentials in the files that Hydra has just written, and note that the job has begun."""
        folder = Path(config.hydra.runtime.output_dir)
        hide_secrets(folder / (config.hydra.output_subdir or ".hydra"))
        if config.hydra.mode == RunMode.MULTIRUN:
            from helip.programs.multirun import begin_job

            hide_secrets(Path(config.hydra.sweep.dir))
            begin_job(folder, [override_without_secrets(override) for override in config.hydra.overrides.task])

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Note how the job ended: it returns why it failed, or raises it under HYDRA_FULL_ERROR."""
        if config.hydra.mode == RunMode.MULTIRUN:
            from helip.programs.multirun import end_job

            try:
                reason = job_return.return_value
            except Exception as error:  # Hydra keeps the exception of the job, and raises it at each access
                reason = f"{type(error).__name__}: {sentence(error, config.hydra.job.name)}"
            end_job(Path(config.hydra.runtime.output_dir), reason)

    @classmethod
    def print(cls) -> bool:
        """Print the table of a multirun if it has not been printed; returns whether each of its jobs has a result."""
        folder, cls.running = cls.running, None
        if folder is None:
            return True
        from rich.console import Console

        from helip.programs.multirun import describe_sweep

        console = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
        table, lines, complete = describe_sweep(folder)
        if table.lines:
            console.print(table.rich())
        for line in lines:
            console.print(line)
        return complete
