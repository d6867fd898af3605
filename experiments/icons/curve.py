"""Loss and recall of the bases while they were trained: metrics.csv of runs -> curve.csv and curve.png.

python -m experiments.icons.curve RUN...     # runs of experiment=icons_base; without one: curve.csv -> curve.png
"""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from helip.artifacts.atomic import atomic_file

FOLDER = Path(__file__).parent
VALUES = {
    "loss": "train/contrastive_loss",
    "i2t": "val/i2t_recall@1",
    "t2i": "val/t2i_recall@1",
    "pairs_per_second": "train/samples_per_second",
}


def collect(runs: list[Path]) -> list[dict[str, str]]:
    """Rows of `run`, `step` and VALUES, empty where a step has none, from the runs' metrics.csv."""
    rows = []
    for run in runs:
        with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                found = {name: line.get(column) or "" for name, column in VALUES.items()}
                if any(found.values()):
                    rows.append({"run": run.name, "step": str(int(line["step"]) + 1), **found})
    return rows


def write(rows: list[dict[str, str]], path: Path) -> None:
    """Write the rows as CSV."""
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["run", "step", *VALUES], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def plot(rows: list[dict[str, str]], path: Path) -> None:
    """Two panels over the steps: training loss, and recall@1 on val, mean of both directions."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for run in dict.fromkeys(row["run"] for row in rows):
        own = [row for row in rows if row["run"] == run]
        loss = [(int(row["step"]), float(row["loss"])) for row in own if row["loss"]]
        recall = [(int(row["step"]), 50 * (float(row["i2t"]) + float(row["t2i"]))) for row in own if row["i2t"]]
        left.plot(*zip(*loss, strict=True), label=run)
        right.plot(*zip(*recall, strict=True), marker="o", label=run)
    left.set(xlabel="step", ylabel="training loss (128 pairs)", ylim=(0, None))
    right.set(xlabel="step", ylabel="recall@1 on val (%)", ylim=(0, None))
    left.legend()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def main(arguments: list[str]) -> None:
    """Command line."""
    table = FOLDER / "curve.csv"
    if arguments:
        write(collect([Path(argument) for argument in arguments]), table)
    with open(table, newline="", encoding="utf-8") as file:
        plot(list(csv.DictReader(file)), FOLDER / "curve.png")


if __name__ == "__main__":
    main(sys.argv[1:])
