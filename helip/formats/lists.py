"""Reads comma- or tab-separated lists with a header line by line, and reports errors with their line number."""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helip.errors import HelipError

SEPARATORS = ("\t", ",", "|", ";")
SHOWN = 5


class BadLine(ValueError):
    """A line that cannot be read; the lines after it can."""


@dataclass
class DelimitedList:
    """A list whose first line names the columns.

    Attributes:
        quoting: False if quotation marks are ordinary characters.
        suspicious: numbers of lines with a quoted field that holds both a line break and a separator.
        swallowed: those of them whose field holds whole lines, because a quotation mark was not closed.
    """

    path: Path
    separator: str
    quoting: bool = True
    suspicious: list[int] = field(default_factory=list[int])
    swallowed: list[int] = field(default_factory=list[int])

    def entries(self) -> Iterator[tuple[int, dict[str, str] | BadLine]]:
        """Line number and fields of each line, or the reason why the line cannot be read.

        Raises:
            HelipError: no file, no header, a repeated column, or a quotation mark that is not closed at the end.
        """
        csv.field_size_limit(sys.maxsize)  # captions can have a megabyte
        self.suspicious.clear()
        self.swallowed.clear()
        number = 1
        try:
            with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                reader = self._reader(file)
                header = [name.strip() for name in next(reader, [])]
                self._check_header(header)
                number = reader.line_num + 1
                for fields in reader:
                    if fields:
                        yield number, self._entry(number, header, fields)
                    number = reader.line_num + 1
        except OSError as error:
            raise HelipError(f"{self.path} cannot be read ({error.strerror})") from error
        except csv.Error as error:
            raise HelipError(
                f"{self.path}, line {number}: {error}; if quotation marks are ordinary characters, give --quoting none"
            ) from error

    def header(self) -> list[str]:
        """Names of the columns with this separator; empty if the file is not text."""
        try:
            with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                return [name.strip() for name in next(self._reader(file), [])]
        except (OSError, csv.Error):
            return []

    def warnings(self) -> list[str]:
        """One sentence about the suspicious lines."""
        if not self.suspicious:
            return []
        lines = ", ".join(map(str, self.suspicious[:SHOWN]))
        return [
            f"{self.path.name}: {len(self.suspicious):,} quoted fields hold line breaks and separators, at line "
            f"{lines}: if quotation marks are ordinary characters, whole lines were lost; --quoting none reads them"
        ]

    def _reader(self, file: Iterator[str]) -> Any:  # csv.reader, whose type has no public name
        kind = csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE
        return csv.reader(file, delimiter=self.separator, strict=True, quoting=kind)

    def _check_header(self, header: list[str]) -> None:
        if not any(header):
            raise HelipError(f"{self.path} is empty: its first line must name the columns")
        if repeated := [name for name, count in Counter(header).items() if count > 1]:
            raise HelipError(f"{self.path} names the column {repeated[0]!r} more than once: rename or remove one")

    def _entry(self, number: int, header: list[str], fields: list[str]) -> dict[str, str] | BadLine:
        if len(fields) != len(header):
            return BadLine(f"{len(fields)} fields, but the header names {len(header)}")
        for text in fields if self.quoting else ():
            if self.separator in text and ("\n" in text or "\r" in text):
                self.suspicious.append(number)
                if any(line.count(self.separator) >= len(header) - 1 for line in text.splitlines()[1:]):
                    self.swallowed.append(number)
        try:
            "".join(fields).encode("utf-8")
        except UnicodeError:
            return BadLine("it is not UTF-8")
        return dict(zip(header, fields, strict=True))


def check_separator(separator: str) -> None:
    """Raises HelipError for a separator that a CSV file cannot have."""
    if len(separator) != 1 or separator in '"\r\n':
        raise HelipError(f"a separator is one character such as ',' or a tab, not {separator!r}")
