"""Reads and writes the files of the authors' released scripts (hard_pair_mining.py of haonan3/HELIP).

`url_index/NAME_url_index.json` maps a url to an id. `NAME_hard_sample.csv` has a line per target: its id, then the ids
of its hard pairs. `NAME_hard_sample_dict.json` (their README names it, their code never writes it) maps a target's id
to the list. The CSV file is read line by line, the JSON files are read whole; all are written piece by piece.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from helip.artifacts.atomic import atomic_file
from helip.errors import HelipError

ID = re.compile(r"\s*\d{1,10}\s*")
MOST = 2**31 - 1  # an id is a row, and rows are int32 (helip.artifacts.hard_pairs)


def read_url_index(path: Path) -> dict[str, int]:
    """Url to id. Raises HelipError for other content, or an id that two urls share."""
    content = _json(path)
    good = all(type(value) is int and 0 <= value <= MOST for value in content.values())  # True is an int too
    if not good or len(set(content.values())) != len(content):
        raise HelipError(f"{path} must map every url to an id of its own, a whole number from 0 to {MOST:,}")
    return content


def read_hard_samples(path: Path) -> Iterator[tuple[int, list[int]]]:
    """Ids of each target and of its hard pairs, line by line. Raises HelipError for an entry that is no id."""
    if path.suffix == ".json":
        for target, partners in _json(path).items():
            if not isinstance(partners, list):
                raise HelipError(f"{path}: target {target!r} has no list of ids")
            yield _ids([target, *partners], f"{path}, target {target!r}")
        return
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _ids(line.strip().split(","), f"{path}, line {number}")
    except OSError as error:
        raise HelipError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise HelipError(f"{path} is no CSV file of ids (it is not UTF-8)") from error


def _ids(entries: list, where: str) -> tuple[int, list[int]]:
    try:
        if any(isinstance(entry, bool | float) for entry in entries):
            raise ValueError
        target, *partners = (int(entry) for entry in entries)
    except (ValueError, TypeError) as error:
        bad = next((entry for entry in entries if not ID.fullmatch(str(entry))), entries[0])
        raise HelipError(f"{where}: {str(bad)[:40]!r} is no id") from error
    for number in (min(target, *partners, 0), max(target, *partners, MOST)):
        if not 0 <= number <= MOST:
            raise HelipError(f"{where}: {str(number)[:40]} is no id, a whole number from 0 to {MOST:,}")
    return target, partners


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise HelipError(f"{path} cannot be read as JSON ({str(error)[:200]})") from error
    if not isinstance(content, dict):
        raise HelipError(f"{path} must be a JSON object")
    return content


def write_url_index(path: Path, urls: Iterable[str | None]) -> tuple[int, int]:
    """Write {url: its first line}, as json.dump would. Returns the numbers of lines with a repeated url and without."""
    seen: set[str] = set()
    repeated = missing = 0
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("{")
        for line, url in enumerate(urls):
            if url is None:
                missing += 1
            elif url in seen:
                repeated += 1
            else:
                file.write(f"{', ' if seen else ''}{json.dumps(url)}: {line}")
                seen.add(url)
        file.write("}")
    return repeated, missing


def write_hard_samples(csv_path: Path, dict_path: Path, entries: Iterable[tuple[int, np.ndarray]]) -> int:
    """Write the ids of targets and their hard pairs in both forms. Returns the number of targets."""
    count = 0
    with (
        atomic_file(csv_path) as temporary,
        atomic_file(dict_path) as temporary_dict,
        open(temporary, "w", encoding="utf-8", newline="") as lines,
        open(temporary_dict, "w", encoding="utf-8") as mapping,
    ):
        writer = csv.writer(lines)  # its default line ends equal theirs
        mapping.write("{")
        for target, partners in entries:
            ids = [int(partner) for partner in partners]
            writer.writerow([target, *ids])
            mapping.write(f'{", " if count else ""}"{target}": {json.dumps(ids)}')
            count += 1
        mapping.write("}")
    return count
