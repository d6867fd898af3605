"""How fast a search runs, and how long it still will."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Speed(ProgressColumn):
    """Pairs per second and the arithmetic they stand for.

    Args:
        operations: floating point operations of one pair's score: 2 (d_I + d_T).
    """

    def __init__(self, operations: int) -> None:
        super().__init__()
        self.operations = operations

    def render(self, task: Task) -> Text:
        """Of the last seconds."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.3g} pairs/s  {speed * self.operations / 1e12:.3g} TFLOP/s")


@contextmanager
def search_progress(label: str, pairs: float, operations: int, show: bool) -> Generator[Callable[[int], None]]:
    """A bar over the pairs that are to be scored.

    Yields:
        A function to be told how many more pairs are done.
    """
    if not show:
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        Speed(operations),
    )
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=pairs)
        yield lambda done: progress.advance(task, done)
