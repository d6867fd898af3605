"""Runs -> one table: the mean over seeds of each arm, with a 95 % interval, in Markdown.

    python experiments/tabulate.py runs/train-sweep/DATE/*/results.json --metrics test/t2i_recall@1 test/i2t_recall@1

An arm is a value of helip.score. The interval is Student's t over the seeds; with one seed there is none.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}  # two-sided, by number of seeds


def summary(values: Sequence[float]) -> str:
    """Percent: mean, and half the width of the 95 % interval where there are 2 to 8 values."""
    percent = [100 * value for value in values]
    if len(percent) not in T_95:
        return f"{mean(percent):.2f}"
    return f"{mean(percent):.2f} ± {T_95[len(percent)] * stdev(percent) / len(percent) ** 0.5:.2f}"


def table(files: Sequence[Path], metrics: Sequence[str]) -> str:
    """One line an arm, the starting checkpoint first.

    Raises:
        SystemExit: a metric is missing, or the runs started from different checkpoints.
    """
    arms: dict[str, list[dict]] = defaultdict(list)
    for file in files:
        result = json.loads(file.read_text(encoding="utf-8"))
        arms[result["helip"]["score"]].append(result["metrics"])
    runs = [run for found in arms.values() for run in found]
    if missing := [name for name in metrics if any(name not in run["after"] for run in runs)]:
        raise SystemExit(f"not every run has {', '.join(missing)}")
    if any(abs(run["before"][name] - runs[0]["before"][name]) > 0.005 for run in runs for name in metrics):
        raise SystemExit("the runs did not start from the same checkpoint")
    lines = [["arm", "seeds", *(f"{name} (%)" for name in metrics)], ["---", *["---:"] * (len(metrics) + 1)]]
    lines.append(["before", "", *(f"{100 * runs[0]['before'][name]:.2f}" for name in metrics)])
    for arm, found in arms.items():
        lines.append([arm, str(len(found)), *(summary([run["after"][name] for run in found]) for name in metrics)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("results", nargs="+", type=Path, help="results.json files")
    parser.add_argument("--metrics", nargs="+", required=True)
    arguments = parser.parse_args()
    print(table(arguments.results, arguments.metrics))


if __name__ == "__main__":
    main()
