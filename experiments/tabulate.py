"""Runs -> one table: the mean over seeds of each arm with its 95 % interval, in Markdown, CSV and as a plot.

    python experiments/tabulate.py runs/train-sweep/DATE --by helip.topk --metrics test/t2i_recall@1
    python experiments/tabulate.py RESULTS... --x helip.topk --out OUT                # OUT.md, OUT.csv, OUT.png
    python experiments/tabulate.py RESULTS... --by helip.score helip.margin_weight \\
      --difference helip.score=joint helip.score=random                # paired by seed and by margin_weight

RESULTS are results.json files, run folders or folders of runs (a sweep). An arm is a combination of values of --by and
--x: dotted keys of results.json, or groups such as `helip` by their typed option. Its runs differ only in the seed.
Intervals are Student's t over the seeds; one seed has none. --metrics also takes dotted keys of numbers, such as
seen.distinct_targets.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # also from a checkout that is not installed

from experiments.arms import Line, arm_lines, difference_lines, load, start, wanted, with_unit
from experiments.intervals import Estimate, interval_plot
from helip.artifacts.atomic import atomic_file
from helip.errors import HelipError
from helip.report.tables import Table


def table(
    lines: Sequence[Line], by: Sequence[str], metrics: Sequence[str], before: Mapping[str, float] | None = None
) -> Table:
    """Arms under the starting checkpoint; without `before` (None) a table of differences."""
    sign, unit, runs = ("+", "points", "pairs") if before is None else ("", "%", "seeds")
    cells = [
        [" · ".join(line.key), str(line.count), *(line.estimates[n].text(sign) for n in metrics)] for line in lines
    ]
    if before:
        cells.insert(0, ["before", "", *(f"{before[name]:.2f}" if name in before else "" for name in metrics)])
    return Table("", [" · ".join(by), runs, *(with_unit(name, unit) for name in metrics)], cells)


def write_csv(path: Path, found: Mapping[str, Sequence[Line]]) -> None:
    """One row for each line and metric; empty cells where a single run gives no interval."""
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["table", "line", "metric", "runs", "mean", "low", "high", "values"])
        for kind, lines in found.items():
            for line in lines:
                for metric, e in line.estimates.items():
                    ends = ["", ""] if e.half is None else [f"{e.mean - e.half:.4f}", f"{e.mean + e.half:.4f}"]
                    values = " ".join(f"{value:.4f}" for value in e.values)
                    writer.writerow([kind, " · ".join(line.key), metric, line.count, f"{e.mean:.4f}", *ends, values])


def panels(
    lines: Sequence[Line], metrics: Sequence[str], x: str | None, unit: str
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Heading -> line -> place -> estimate. With x, whose value is the last of each key, the rest names the line."""
    found = {}
    for metric in metrics:
        series: dict[str, dict[str, Estimate]] = {}
        for line in lines:
            name, place = (" · ".join(line.key[:-1]), line.key[-1]) if x else ("", " · ".join(line.key))
            series.setdefault(name, {})[place] = line.estimates[metric]
        found[with_unit(metric, unit)] = series
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="results.json files, run folders, folders of runs")
    parser.add_argument("--metrics", nargs="+", help="default: recall@1 and top-1 accuracy of every part")
    parser.add_argument("--by", nargs="+", default=["helip.score"], help="keys that name an arm (helip.score)")
    parser.add_argument("--x", help="a key that names an arm as well, on the x axis of the plot")
    parser.add_argument("--difference", nargs=2, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="also write OUT.md, OUT.csv, OUT.png (and OUT-difference.png)")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    runs, x, out = load(arguments.results), arguments.x, arguments.out
    known = runs[0].content["metrics"]["after"]
    metrics = arguments.metrics or [name for name in known if name.endswith(("recall@1", "_top1"))]
    by = [name for name in arguments.by if name != x] + ([x] if x else [])
    found = {"arm": arm_lines(runs, by, metrics)}
    before = {} if any(name.startswith("base.") for name in by) else start(runs, metrics)
    text = table(found["arm"], by, metrics, before).markdown()
    sides = [(wanted(one), wanted(other)) for one, other in arguments.difference]
    for pair in sides:
        lines, notes = difference_lines(runs, by, metrics, *pair)
        rest = [name for name in by if name not in pair[0] and name not in pair[1]]
        found.setdefault("difference", []).extend(lines)
        text += (
            "\n" + table(lines, ["difference", *rest], metrics).markdown() + "".join(f"\n{note}\n" for note in notes)
        )
    print(text, end="")
    if out:
        with atomic_file(out.with_suffix(".md")) as temporary:
            temporary.write_text(text, encoding="utf-8")
        write_csv(out.with_suffix(".csv"), found)
        heading = "95 % intervals over seeds"
        across = {with_unit(name): value for name, value in before.items()}
        interval_plot(
            out.with_suffix(".png"), panels(found["arm"], metrics, x, "%"), f"Means, {heading}", x or "", across
        )
        if sides:
            named = all(x not in side for pair in sides for side in pair) and x
            drawn = panels(found["difference"], metrics, x if named else None, "points")
            place = out.with_name(f"{out.stem}-difference.png")
            interval_plot(
                place, drawn, f"Paired differences, {heading}", x if named else "", dict.fromkeys(drawn, 0.0), "none"
            )


if __name__ == "__main__":
    try:
        main()
    except HelipError as error:
        sys.exit(f"error: {error}")
