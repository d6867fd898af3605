"""Hard pairs as lines of JSON: the row, its partners, their scores."""

import argparse
import json
from pathlib import Path

from helip.artifacts.atomic import write_text
from helip.artifacts.hard_pairs import HardPairIndex


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", type=Path)
    parser.add_argument("out", type=Path)


def run(arguments: argparse.Namespace) -> list[str]:
    index, lines = HardPairIndex.load(arguments.index), []
    for row, (partners, scores) in enumerate(zip(index.rows.tolist(), index.scores.tolist(), strict=True)):
        there = [place for place, partner in enumerate(partners) if partner >= 0]
        line = {"row": row, "partners": [partners[n] for n in there], "scores": [scores[n] for n in there]}
        lines.append(json.dumps(line))
    write_text(arguments.out, "\n".join(lines) + "\n")
    return [f"{len(lines):,} rows in {arguments.out}"]
