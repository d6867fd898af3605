"""metrics.csv: a line of numbers for each logged step of a training.

A line is appended by one write. A new column rewrites the file atomically. A killed process or a full disk can leave
half a line at the end of the file. It has no line break, and readers and writers drop it.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helip.artifacts.atomic import write_text

Line = dict[str, str]  # column -> cell; a cell that is empty or missing is left out


def read_lines(path: Path) -> list[Line]:
    """The whole lines of a file; [] if there is no file."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    return [{name: cell for name, cell in line.items() if name and cell} for line in lines]


class MetricsFile:
    """Appends lines; the columns are sorted by name and grow with the logged values."""

    def __init__(self, path: Path) -> None:
        """The first `append` continues a file that exists."""
        self.path = path
        self._columns: list[str] = []

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line. It is in the file when this returns, even if the process is killed then."""
        if self._columns and line.keys() <= set(self._columns):
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(_text([line], self._columns))
        else:
            self.replace([*read_lines(self.path), line])

    def replace(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Replace the lines of the file atomically; without a line, delete the file."""
        self._columns = sorted({name for line in lines for name in line})
        if lines:
            write_text(self.path, _text([dict(zip(self._columns, self._columns, strict=True)), *lines], self._columns))
        else:
            self.path.unlink(missing_ok=True)


def _text(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    found = io.StringIO(newline="")
    csv.DictWriter(found, columns, lineterminator="\n").writerows(lines)
    return found.getvalue()
