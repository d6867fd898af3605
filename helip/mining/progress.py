"""A progress bar for a search, with its speed and the time left."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from helip.mining.vectors import Pairs


class Speed(ProgressColumn):
    """Pairs and floating point operations per second.

    Args:
        operations: floating point operations of one pair's score: 2 (d_I + d_T).
    """

    def __init__(self, operations: int) -> None:
        super().__init__()
        self.operations = operations

    def render(self, task: Task) -> Text:
        """Speed of the last seconds; of all of it once finished."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.3g} pairs/s  {speed * self.operations / 1e12:.3g} TFLOP/s")


@contextmanager
def search_progress(label: str, total: int, pairs: Pairs, show: bool) -> Generator[Callable[[int], None]]:
    """A bar over the `total` number of pairs to score, if `show`.

    Yields:
        A function of the number of pairs just done.
    """
    if not show:
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        Speed(2 * (pairs.image.width + pairs.text.width)),
    )
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.advance(task, done)
