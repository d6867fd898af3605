"""Hydra's callback for multiruns: how each job ended, and one table of all of them."""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from helip.cli.sentences import sentence


def started_by_launcher() -> bool:
    """Whether Lightning, torchrun or srun started this process as one rank of several."""
    return "LOCAL_RANK" in os.environ or "RANK" in os.environ


class SweepTable(Callback):
    """Writes status.json into the folder of each job; prints the table when the jobs have ended.

    A launcher such as submitit's runs the jobs in other processes: `on_job_*` are called there, `on_multirun_*` here.
    """

    running: ClassVar[Path | None] = None  # the folder of this process's multirun, until its table is printed

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the folder: Hydra does not call `on_multirun_end` when somebody interrupts a job."""
        if not started_by_launcher():  # else each rank would print the table
            SweepTable.running = Path(config.hydra.sweep.dir).absolute()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table. Exit status 1 where a job has no result; Hydra makes a warning of any other exception."""
        if not self.print():
            sys.exit(1)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """The job is unfinished until it ends."""
        if config.hydra.mode == RunMode.MULTIRUN:
            from helip.programs.multirun import begin_job

            begin_job(Path(config.hydra.runtime.output_dir), config.hydra.overrides.task)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """The job returns why it failed, or raises it under HYDRA_FULL_ERROR; one that is killed does not get here."""
        if config.hydra.mode == RunMode.MULTIRUN:
            from helip.programs.multirun import end_job

            try:
                reason = job_return.return_value
            except Exception as error:  # Hydra keeps what the job raised, and raises it at each access
                reason = f"{type(error).__name__}: {sentence(error, config.hydra.job.name)}"
            end_job(Path(config.hydra.runtime.output_dir), reason)

    @classmethod
    def print(cls) -> bool:
        """The table of a multirun whose table has not been printed; whether each of its jobs has its result."""
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
