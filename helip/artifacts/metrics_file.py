"""metrics.csv: a line of numbers for each logged step of a training, appended as the training runs.

A line is appended by one write. A new column rewrites the file atomically. A process that is killed, or a disk that is
full, can leave half a line at the end of the file: it has no line break, and neither a reader nor a writer keeps it.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import write_text

Line = dict[str, str]  # column -> cell; a cell that is empty or missing is left out


def read_lines(path: Path) -> list[Line]:
    """The whole lines of a file, [] where there is none."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    return [{name: cell for name, cell in line.items() if name and cell} for line in lines]


class MetricsFile:
    """Appends lines; the columns, sorted by name, grow with what is logged."""

    def __init__(self, path: Path) -> None:
        """A file that exists is continued at the first `append`."""
        self.path = path
        self._columns: list[str] = []

    def append(self, line: Mapping[str, Any]) -> None:
        """One line, in the file when this returns: kill -9 does not take it."""
        if self._columns and line.keys() <= set(self._columns):
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(_text([line], self._columns))
        else:
            self.replace([*read_lines(self.path), line])

    def replace(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write the file anew, atomically; without a line there is no file."""
        self._columns = sorted({name for line in lines for name in line})
        if lines:
            write_text(self.path, _text([dict(zip(self._columns, self._columns, strict=True)), *lines], self._columns))
        else:
            self.path.unlink(missing_ok=True)


def _text(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    found = io.StringIO(newline="")
    csv.DictWriter(found, columns, lineterminator="\n").writerows(lines)
    return found.getvalue()
