"""The study's tables and figure from its results: results/**/*.json -> tables.md, surface.png.

python -m experiments.hard_batches.study
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib
from matplotlib import pyplot

from experiments.hard_batches.arms import SEEDS
from experiments.hard_batches.differences import Difference, Result, paired
from experiments.hard_batches.secondary import (
    Arms,
    Setting,
    advice_table,
    emoji_table,
    geometry_table,
    is_measured,
    measured_table,
)
from helip.artifacts.atomic import atomic_file
from helip.report.tables import Table

HERE = Path(__file__).parent
K = 20
NAMES = {"off": "off", "L": "L", "M": "M", "random": "random partner", "placebo": "M on a permuted graph"}


def load(stage: str) -> list[Result]:
    """Results of a stage, by base, seed and arm."""
    files = sorted((HERE / "results" / stage).glob("*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return sorted(found, key=lambda run: (run["base"], run.get("seed", 0)))


def by_arm(runs: Sequence[Result]) -> Arms:
    arms: Arms = {}
    for run in runs:
        arms.setdefault(run["arm"], []).append(run)
    return arms


def dose(batch: int, rows: int) -> float:
    """h: how many of a row's top K a random batch holds."""
    return K * (batch - 1) / (rows - 1)


def comparisons(arms: Arms, checkpoints: list[Result]) -> dict[str, list[tuple[str, Difference]]]:
    """The comparisons that each family must win."""
    families = {"L": ["off", "permuted", "constant_control"], "M": ["off", "random", "placebo", "L"]}
    return {
        family: [
            *((NAMES.get(other, other), paired(arms[family], arms[other])) for other in others if other in arms),
            ("the checkpoint", paired(arms[family], checkpoints)),
        ]
        for family, others in families.items()
    }


def verdict_table(arms: Arms, checkpoints: list[Result]) -> Table:
    """Every comparison, and whether the family passes; no verdict before all runs have ended."""
    rows, wanted = [], 2 * len(SEEDS)
    for family, found in comparisons(arms, checkpoints).items():
        complete = all(len(difference.runs) == wanted for _, difference in found)
        for name, difference in found:
            each = ", ".join(f"{value:+.2f}" for value in difference.by_base.values())
            shown = ("above" if difference.above else "not shown") if len(difference.runs) == wanted else "open"
            rows.append([f"{family} - {name}", str(len(difference.runs)), difference.text(), each, shown])
        passes = "passes" if all(difference.above for _, difference in found) else "does not pass"
        rows.append([f"**{family}**", "", "", "", f"**{passes if complete else f'open: needs {wanted} runs an arm'}**"])
    return Table("", ["difference", "runs", "recall@1 on test (points, 95 %)", "by base", ""], rows)


def arm_table(arms: Arms, checkpoints: list[Result]) -> Table:
    """Means over runs of everything that was measured."""
    rows = [["checkpoint", str(len(checkpoints)), *_means(checkpoints), "", ""]]
    for arm, runs in arms.items():
        drift = mean(run["parts"]["test"]["drift"] for run in runs)
        rows.append([NAMES.get(arm, arm), str(len(runs)), *_means(runs), f"{drift:.3f}", f"{_rate(runs):.0f}"])
    metrics = ["test R@1", "test R@10", "unseen sets R@1", "neighbours (test)", "val R@1"]
    return Table("", ["arm", "runs", *metrics, "drift", "pairs/s"], rows)


def _means(runs: Sequence[Result]) -> list[str]:
    asked = [
        ("test", "recall@1"),
        ("test", "recall@10"),
        ("unseen", "recall@1"),
        ("test", "neighbours@1"),
        ("val", "recall@1"),
    ]
    return [f"{mean(run['parts'][part][metric] for run in runs):.2f}" for part, metric in asked]


def _rate(runs: Sequence[Result]) -> float:
    rates = [run["last_log"].get("samples_per_second", float("nan")) for run in runs]
    return sorted(rates)[len(rates) // 2]


def selection_table() -> Table:
    """Every trial on val, the chosen ones marked."""
    choice = json.loads((HERE / "choice.json").read_text(encoding="utf-8"))
    runs = {run["arm"]: run for run in load("selection")}
    rows = []
    for arm, values in choice["val"].items():
        for number, value in enumerate(values):
            chosen = number == choice["trial"][arm]
            picked = "".join(f" ({family})" for family, pick in choice["picks"].items() if chosen and pick == arm)
            recipe = " ".join(runs[f"{arm}.{number}"]["recipe"])
            rows.append([arm, f"`{recipe}`", f"{value:.2f}", f"chosen{picked}" if chosen else ""])
    return Table("", ["arm", "trial", "val R@1", ""], rows)


def points() -> list[tuple[str, dict[str, Any], Arms]]:
    """(label, place, arms) of the surface and of the saturation, where all three arms have run."""
    runs = [
        *load("surface"),
        *load("saturation"),
        *(run for run in load("final") if run["base"] == "spent-1" and run["seed"] <= 3),
    ]
    places: dict[tuple[str, int, int], list[Result]] = {}
    for run in runs:
        places.setdefault((run["base"], run["batch"], run["rows"]), []).append(run)
    found = []
    for (base, batch, rows), members in sorted(places.items()):
        arms = by_arm([run for run in members if run["arm"] in ("off", "L", "M")])
        if complete(arms):
            place = {"base": base, "batch": batch, "rows": rows, "h": dose(batch, rows)}
            found.append((f"{base}, B {batch}, N {rows:,}", place, arms))
    return found


def surface_table() -> Table:
    """M - off, M - L and L - off at every point."""
    rows = []
    for label, place, arms in points():
        cells = [paired(arms[a], arms[b]).text() for a, b in (("M", "off"), ("M", "L"), ("L", "off"))]
        loss = mean(run["last_log"]["contrastive_loss"] for run in arms["off"]) / math.log(place["batch"])
        seen = f"{mean(run['parts']['test']['recall@1'] for run in arms['off']):.2f}"
        rows.append([label, f"{place['h']:.3g}", str(len(arms["off"])), f"{loss:.2f}", seen, *cells])
    headers = [
        "base, batch, rows",
        "h (k = 20)",
        "seeds",
        "loss / ln B of off",
        "off (%)",
        "M - off",
        "M - L",
        "L - off",
    ]
    return Table("", headers, rows)


def draw(path: Path) -> None:
    """The surface: the three differences by dose, and by saturation."""
    matplotlib.use("Agg")
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True, width_ratios=[5, 3])
    of_spent = sorted((e for e in points() if e[1]["base"] == "spent-1"), key=lambda e: (e[1]["h"], e[1]["rows"]))
    order = ["falling", "middle", "spent-1"]
    alike = [e for e in points() if e[1]["batch"] == 32 and e[1]["rows"] == 20_000]
    by_base = sorted(alike, key=lambda e: order.index(e[1]["base"]))
    doses = [f"h {place['h']:.2g}\nB {place['batch']}\nN {place['rows']:,}" for _, place, _ in of_spent]
    _panel(axes[0], of_spent, doses, "spent base, by dose h (mined top-20 rows in a random batch)")
    _panel(axes[1], by_base, [place["base"] for _, place, _ in by_base], "B 32, N 20,000, by base")
    axes[0].set_ylabel("points of recall@1 (95 %)")
    axes[1].legend(frameon=False, ncols=3, loc="lower center")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=140, format="png")
    pyplot.close(figure)


def _panel(axes: Any, places: list[tuple[str, dict[str, Any], Arms]], labels: list[str], title: str) -> None:
    """Draw the three differences at each place."""
    colours = {"L - off": "#5b8c3a", "M - off": "#1f6f8b", "M - L": "#b5651d"}
    for shift, (name, colour) in enumerate(colours.items()):
        one, other = name.split(" - ")
        found = [paired(arms[one], arms[other]) for _, _, arms in places]
        at = [slot + 0.18 * (shift - 1) for slot in range(len(places))]
        values, halves = [d.mean for d in found], [d.half or 0 for d in found]
        axes.errorbar(at, values, halves, color=colour, fmt="o", capsize=3, label=name)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xticks=range(len(places)), title=title)
    axes.set_xticklabels(labels, fontsize=8)


def settings() -> list[Setting]:
    """Settings with advice and arms: those known when the rule was written, then the unseen ones."""
    found = []
    for _, place, arms in points():
        dataset = {2_500: "icons_2k", 20_000: "icons"}[place["rows"]]
        found.append(Setting(f"{dataset}-{place['base']}-b{place['batch']}", True, arms))
    for batch, arms in by_batch("emoji").items():
        found.append(Setting(f"emoji-b{batch}", True, arms))
    by_base = {base: [run for run in load("advice") if run["base"] == base] for base in ("spent-1", "falling-120k")}
    names = {"spent-1": ("icons_unseen-spent-1-b32", "unseen"), "falling-120k": ("icons_120k-falling-120k-b64", "test")}
    for base, runs in by_base.items():
        if complete(arms := by_arm(runs)):
            name, part = names[base]
            found.append(Setting(name, False, arms, part))
    return [setting for setting in found if is_measured(setting.name)]


def by_batch(stage: str) -> dict[int, Arms]:
    """The places of a stage with all three arms."""
    runs = load(stage)
    found = {batch: by_arm([run for run in runs if run["batch"] == batch]) for batch in {run["batch"] for run in runs}}
    return {batch: arms for batch, arms in sorted(found.items()) if complete(arms)}


def complete(arms: Arms) -> bool:
    """Whether off, L and M have equally many runs."""
    return len(arms) == 3 and len({len(runs) for runs in arms.values()}) == 1


def tables() -> str:
    """All of them, in Markdown."""
    arms, checkpoints = by_arm(load("final")), [c for c in load("checkpoints") if c["base"].startswith("spent")]
    parts = {
        "Verdicts": verdict_table(arms, checkpoints),
        "All arms of the final stage (means; recall in %)": arm_table(arms, checkpoints),
        "Where the features of held-out icons went (base spent-1; cosines, squared distances)": geometry_table(),
        "The response surface, and saturation (points of recall@1 on test)": surface_table(),
        "The embedded emoji, recipes as they are (points of recall@1)": emoji_table(by_batch("emoji")),
        "The advice and what the arms did (points of recall@1)": advice_table(settings()),
        "What `mine.py advise=true` measures": measured_table(),
        "Trials on val": selection_table(),
    }
    return "\n".join(f"## {heading}\n\n{table.markdown()}" for heading, table in parts.items())


def main() -> None:
    text = tables()
    with atomic_file(HERE / "tables.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    draw(HERE / "surface.png")
    print(text, end="")


if __name__ == "__main__":
    main()
