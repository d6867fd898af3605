"""The study's tables and pictures from its results: results/*.json -> tables.md, differences.png, k.png.

python experiments/does_it_help/study.py
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # also from a checkout that is not installed

from experiments.arms import Run, load
from experiments.intervals import Estimate, estimate, interval_plot
from helip.artifacts.atomic import atomic_file
from helip.report.tables import Table

HERE = Path(__file__).parent
SEEDS_OF_K = (1, 2, 3)
BOTH = ("i2t_recall@1", "t2i_recall@1")
PRIMARY, LEVEL = "test recall@1", 0.975  # two primary comparisons at 95 % together
METRICS = {
    PRIMARY: tuple(f"test/{name}" for name in BOTH),
    "concepts recall@1": tuple(f"concepts/{name}" for name in BOTH),
    "test recall@5": ("test/i2t_recall@5", "test/t2i_recall@5"),
    "test zero-shot subgroup": ("test/zeroshot_subgroup_top1",),
    "val recall@1": tuple(f"val/{name}" for name in BOTH),
}  # each is the mean of its parts, in percent


@dataclass(frozen=True)
class Arm:
    """Runs that differ only in the seed."""

    base: str
    score: str
    margin: float
    k: int

    def __str__(self) -> str:
        margin = "" if self.score == "off" else f", margin {self.margin:g}"
        return self.score + (f", k = {self.k}" if self.score in ("joint", "image", "text") else "") + margin


def value(run: Run, metric: str, before: bool = False) -> float:
    """In percent."""
    parts = METRICS[metric]
    found = [run.before(part) if before else run.value(part) for part in parts]
    return sum(part for part in found if part is not None) / len(parts)


def by_arm(runs: Sequence[Run]) -> dict[Arm, dict[int, Run]]:
    """Arm -> seed -> run; the base is the first word of the file's name."""
    arms: dict[Arm, dict[int, Run]] = {}
    for run in runs:
        helip = run.content["helip"]
        margin = 0.0 if helip["score"] == "off" else float(helip["margin_weight"])
        arm = Arm(run.file.name.split("-")[0], helip["score"], margin, int(helip["topk"]))
        arms.setdefault(arm, {})[run.seed] = run
    return arms


def paired(one: dict[int, Run], other: dict[int, Run], metric: str, level: float = 0.95) -> Estimate:
    """Of the differences of runs with the same seed, in percentage points."""
    seeds = sorted(one.keys() & other.keys())
    return estimate([value(one[seed], metric) - value(other[seed], metric) for seed in seeds], level)


def verdict(difference: Estimate) -> str:
    if difference.half is None or abs(difference.mean) <= difference.half:
        return "not shown"
    return "helps" if difference.mean > 0 else "hurts"


def primary(arms: dict[Arm, dict[int, Run]]) -> tuple[Table, dict[str, Estimate]]:
    """Joint minus random with a verdict, as a table and for the picture."""
    rows, drawn = [], {}
    for base, margin in (("early", 0), ("early", 1), ("late", 1)):
        joint, random = (arms[Arm(base, score, margin, 20)] for score in ("joint", "random"))
        found = paired(joint, random, PRIMARY, LEVEL)
        seen = [estimate([value(run, PRIMARY) for run in side.values()]).text() for side in (joint, random)]
        cells = [f"{base}, margin {margin}", str(len(found.values)), *seen, found.text("+")]
        rows.append([*cells, verdict(found) if base == "early" else f"{verdict(found)} (secondary)"])
        drawn[f"{base}\nmargin {margin}"] = found
    headers = ["base", "seeds", "joint (%)", "random (%)", "joint - random (points, 97.5 %)", "verdict"]
    return Table("Primary", headers, rows), drawn


def every_arm(arms: dict[Arm, dict[int, Run]], base: str) -> Table:
    """All metrics of all arms with k = 20, the checkpoint first."""
    chosen = {arm: runs for arm, runs in arms.items() if arm.base == base and (arm.k == 20 or arm.score == "off")}
    first = next(iter(next(iter(chosen.values())).values()))
    rows = [["before", "", *(f"{value(first, metric, before=True):.2f}" for metric in METRICS), "", ""]]
    for arm, runs in sorted(chosen.items(), key=lambda item: str(item[0])):
        seen = [run.content["seen"] for run in runs.values()]
        counts = [f"{sum(s[name] for s in seen) / len(seen):.0f}" for name in ("distinct_targets", "distinct_partners")]
        means = [estimate([value(run, metric) for run in runs.values()]).text() for metric in METRICS]
        rows.append([str(arm), str(len(runs)), *means, *counts])
    return Table(base, ["arm", "seeds", *METRICS, "distinct targets", "distinct partners"], rows)


def against_random(arms: dict[Arm, dict[int, Run]]) -> Table:
    """Each arm minus random with the same margin, of the base `early`; `off` against random with margin 0."""
    rows = []
    for arm, runs in sorted(arms.items(), key=lambda item: str(item[0])):
        if arm.base == "early" and arm.score != "random" and (arm.k == 20 or arm.score == "off"):
            random = arms[Arm("early", "random", arm.margin, 20)]
            found = [paired(runs, random, metric) for metric in METRICS]
            rows.append([str(arm), str(len(found[0].values)), *(difference.text("+") for difference in found)])
    return Table("", ["arm - random", "pairs", *METRICS], rows)


def curve(arms: dict[Arm, dict[int, Run]], seeds: Sequence[int]) -> tuple[Table, dict[str, dict[str, Estimate]]]:
    """The metrics of joint with margin 1 by k, on the seeds that all k have."""
    chosen = {arm.k: runs for arm, runs in arms.items() if arm.base == "early" and str(arm).startswith("joint")}
    chosen = {k: runs for k, runs in sorted(chosen.items()) if arms.get(Arm("early", "joint", 1, k)) is not None}
    rows, drawn = [], {}
    for k in chosen:
        runs = arms[Arm("early", "joint", 1, k)]
        found = {metric: estimate([value(runs[seed], metric) for seed in seeds]) for metric in METRICS}
        partners = sum(runs[seed].content["seen"]["distinct_partners"] for seed in seeds) / len(seeds)
        rows.append([str(k), str(len(seeds)), *(e.text() for e in found.values()), f"{partners:.0f}"])
        for metric in (PRIMARY, "concepts recall@1"):
            drawn.setdefault(metric, {})[str(k)] = found[metric]
    return Table("", ["k", "seeds", *METRICS, "distinct partners"], rows), drawn


def logged(arms: dict[Arm, dict[int, Run]]) -> Table:
    """Means over seeds of what the trainer logged last; in-batch accuracies compare only where batches are alike."""
    names = ("similarity_positive", "similarity_hard", "similarity_normal", "contrastive_loss", "margin_loss", "scale")
    rows = []
    for arm, runs in sorted(arms.items(), key=lambda item: (item[0].base, item[0].score, item[0].margin, item[0].k)):
        logs = [run.content["last_log"] for run in runs.values()]
        cells = [f"{sum(log[name] for log in logs) / len(logs):.4f}" if name in logs[0] else "" for name in names]
        rows.append([f"{arm.base}: {arm}", str(len(logs)), *cells])
    return Table("", ["arm", "seeds", *names], rows)


def tables(arms: dict[Arm, dict[int, Run]]) -> str:
    """All of them, in Markdown."""
    parts = {
        "Primary: recall@1 on the unseen style, paired by seed": primary(arms)[0],
        "All arms from the early base (mean and 95 % interval over seeds, in %)": every_arm(arms, "early"),
        "Differences to random partners, early base (points, 95 %, paired by seed)": against_random(arms),
        "All arms from the late base": every_arm(arms, "late"),
        "The curve over k: joint, margin 1, early base": curve(arms, SEEDS_OF_K)[0],
        "What training saw (last logged of 51 steps, means)": logged(arms),
    }
    return "\n".join(f"## {heading}\n\n{table.markdown()}" for heading, table in parts.items())


def main() -> None:
    arms = by_arm(load(sorted((HERE / "results").glob("*.json"))))
    with atomic_file(HERE / "tables.md") as temporary:
        temporary.write_text(tables(arms), encoding="utf-8")
    heading = {f"{PRIMARY}: joint - random (points)": {"": primary(arms)[1]}}
    title = "Hard or random partners: 97.5 % intervals over 8 seeds"
    interval_plot(HERE / "differences.png", heading, title, "", dict.fromkeys(heading, 0.0), "no difference")
    before, lines = next(iter(arms[Arm("early", "joint", 1, 20)].values())), curve(arms, SEEDS_OF_K)[1]
    interval_plot(
        HERE / "k.png",
        {f"{metric} (%)": {"joint": found} for metric, found in lines.items()},
        "joint, margin 1, early base: 95 % intervals over 3 seeds",
        "helip.topk",
        {f"{metric} (%)": value(before, metric, before=True) for metric in lines},
    )
    print(tables(arms), end="")


if __name__ == "__main__":
    main()
