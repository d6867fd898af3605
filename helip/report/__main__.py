"""Static reports, without a server, a network or W&B.

helip report RUN... [--out FILE.html]              curves, tables and pairs of runs
helip report mining INDEX [INDEX...] [--out FILE]  an index, beside other arms of the same data
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from helip.errors import HelipError
from helip.report.mining_report import compare_indexes
from helip.report.run_report import run_report
from helip.report.runs import read_run

MULTIRUN = "multirun.yaml"  # Hydra's file beside the folders of a multirun's jobs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 and one sentence on standard error for a HelipError."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return mining(given[1:]) if given[:1] == ["mining"] else runs(given)
    except HelipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def runs(given: Sequence[str]) -> int:
    """Write one page about run folders."""
    parser = ArgumentParser("helip report", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, of any of the three programs")
    parser.add_argument("--out", type=Path, help="the page; default: report.html in the only run, or here")
    parser.add_argument("--title", default="", help="heading of the page")
    asked = parser.parse_args(given)
    folders = list({folder.absolute(): folder for folder in run_folders(asked.runs)}.values())
    read = [read_run(folder) for folder in folders]
    out = asked.out or (folders[0] if len(folders) == 1 else Path()) / "report.html"
    for problem in run_report(out, read, asked.title):
        print(f"note: {problem}")
    print(f"report: {out}")
    return 0


def run_folders(given: Sequence[Path]) -> list[Path]:
    """The run folders among paths; the folder of a multirun stands for its jobs.

    Raises:
        HelipError: a multirun without a job, or no run folder.
    """
    found: list[Path] = []
    for path in given:
        if path.name == MULTIRUN and path.is_file():
            continue
        if (path / MULTIRUN).is_file():
            jobs = [job for job in path.iterdir() if (job / "config.json").is_file()]
            if not jobs:
                raise HelipError(f"{path} is a multirun without a job that has begun: give run folders")
            found += sorted(jobs, key=lambda job: (len(job.name), job.name))
        else:
            found.append(path)
    if not found:
        raise HelipError("none of the paths is a run folder: give run folders, such as runs/train/DATE")
    return found


def mining(given: Sequence[str]) -> int:
    """Write the mining report of the first index folder, with the overlap of all."""
    parser = ArgumentParser("helip report mining", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("indexes", nargs="+", type=Path, metavar="INDEX", help="folders of hard pairs of the same data")
    parser.add_argument("--topk", type=int, help="pairs per row that are compared; default: those of the mining")
    parser.add_argument("--out", type=Path, help="the page; default: index.html in <first index>-report")
    asked = parser.parse_args(given)
    path, has_gallery = compare_indexes(asked.indexes, asked.topk, asked.out)
    if not has_gallery:
        print("note: no gallery beside the index: run `python mine.py` with the same settings to draw it")
    print(f"report: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
