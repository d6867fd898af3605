"""The log of the run folder, and a line of numbers every few steps of a training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from helip.ranks import is_logged

WIDTH = 200  # of the file: room for the names of metrics
# Metric -> its format; a metric that the step has not logged is left out.
SAID = {
    "train/loss": "loss {:.4f}",
    "train/lr": "lr {:.2e}",
    "train/samples_per_second": "{:,.0f} samples/s",
    "train/data_wait_share": "waits for data {:.0%}",
}


class KeptConsole(Console):
    """A console that writes its lines and tables to a file as well."""

    def __init__(self, path: Path | None, **arguments: Any) -> None:
        """`path`: the file, opened for each line so that a killed run keeps its log; None: no file."""
        super().__init__(**arguments)
        self.kept = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def print(self, *objects: Any, **more: Any) -> None:
        """Print on the screen, then into the file."""
        super().print(*objects, **more)
        if self.kept is not None:
            with self.kept.open("a", encoding="utf-8", errors="replace") as file:
                Console(file=file, highlight=False, markup=False, soft_wrap=True, width=WIDTH).print(*objects, **more)


class StepLog(pl.Callback):
    """Prints loss, learning rate, speed and wait for data every train.log_every steps, as a plain line beside the bar.

    Lightning must call it after the callback that measures the speed. `say` takes the line.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Print the metrics of this step; reading them waits for the device, as the loggers do at this step."""
        if is_logged(trainer, trainer.global_step):
            metrics = trainer.callback_metrics
            said = [how.format(float(metrics[name])) for name, how in SAID.items() if name in metrics]
            self.say(f"step {trainer.global_step:,}/{trainer.max_steps:,}: {', '.join(said)}")
