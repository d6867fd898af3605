"""Tables beside the verdicts: geometry of the features, the emoji, and whether `advise` is right."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.hard_batches.differences import Difference, Result, of_values, paired
from helip.report.tables import Table
from helip.training.advise import MOST_DOSE, Advice, Measured, advise
from helip.training.saturation import Saturation

RESULTS = Path(__file__).parent / "results"
Arms = dict[str, list[Result]]


def geometry_table() -> Table:
    """How training changed the features of held-out icons, means over seeds."""
    found = json.loads((RESULTS / "geometry.json").read_text(encoding="utf-8"))
    names = ("positive", "negative", "centroid", "scale", "drift", "drift_of_centroids")
    rows = []
    for arm, runs in found.items():
        cells = [f"{mean(run[name] for run in runs):.3g}" if name in runs[0] else "" for name in names]
        rows.append([arm, str(len(runs)), *cells])
    headers = ["cosine of pairs", "of others", "length of the mean feature", "scale", "drift", "of it, the mean's"]
    return Table("", ["arm", "runs", *headers], rows)


def emoji_recall(run: Result, part: str) -> float:
    """Recall@1 in percent, mean of both directions, as train.py measured it."""
    return 50 * (run["metrics"][f"{part}/i2t_recall@1"] + run["metrics"][f"{part}/t2i_recall@1"])


def emoji_difference(one: Sequence[Result], other: Sequence[Result], part: str) -> Difference:
    """The difference with an interval over seeds alone."""
    by_seed = {run["seed"]: emoji_recall(run, part) for run in other}
    return of_values([emoji_recall(run, part) - by_seed[run["seed"]] for run in one])


def emoji_table(places: dict[int, Arms]) -> Table:
    """By batch size, each part."""
    rows = []
    for batch, arms in sorted(places.items()):
        for part in ("test", "concepts"):
            off = mean(emoji_recall(run, part) for run in arms["off"])
            pairs = (("M", "off"), ("M", "L"), ("L", "off"))
            cells = [emoji_difference(arms[a], arms[b], part).text() for a, b in pairs]
            rows.append([f"B {batch}, {part}", str(len(arms["off"])), f"{off:.2f}", *cells])
    return Table("", ["emoji", "seeds", "off (%)", "M - off", "M - L", "L - off"], rows)


@dataclass(frozen=True)
class Setting:
    """A setting with its advice and its arms.

    Attributes:
        name: of the file in results/measured.
        known: whether its results were known when the rule was written.
        arms: off, L and M.
        part: held out from the data that the arms trained on.
    """

    name: str
    known: bool
    arms: Arms
    part: str = "test"

    def minus(self, one: str, other: str) -> Difference:
        if self.name.startswith("emoji"):
            return emoji_difference(self.arms[one], self.arms[other], self.part)
        return paired(self.arms[one], self.arms[other], self.part)


def is_measured(name: str) -> bool:
    return (RESULTS / "measured" / f"{name}.json").is_file()


def measured(name: str) -> Measured:
    """As `mine.py advise=true` wrote it."""
    found: dict[str, Any] = json.loads((RESULTS / "measured" / f"{name}.json").read_text(encoding="utf-8"))
    three = (found[side] for side in ("training", "held_out", "with_partners"))
    sides = [None if side is None else Saturation(**side) for side in three]
    assert sides[0] is not None
    return Measured(found["k"], found["batch_size"], found["rows"], sides[0], *sides[1:])


def arm_of(advice: Advice) -> str:
    """The arm that an advice names."""
    return "L" if "margin" in advice.overrides else "off"


def first_rule(about: Measured) -> str:
    """The arm of the first rule, which was fixed before the two unseen settings ran and replaced after the emoji.

    L for a checkpoint that is falling or middle, or where mined pairs add less than 0.02 ln B to the loss; M for one
    that is spent or overfit.
    """
    if about.dose >= MOST_DOSE:
        return "off"
    harder = about.added is None or about.added >= 0.02
    return "M" if about.kind in ("spent", "overfit") and harder else "L"


def judged(setting: Setting, named: str) -> str:
    """Whether another arm of the setting is above the named one."""
    better = [arm for arm in setting.arms if arm != named and setting.minus(arm, named).above]
    return f"{named}: wrong, {', '.join(better)} is better" if better else f"{named}: right"


def advice_table(settings: Sequence[Setting]) -> Table:
    """The measures before a training, the advice, and the results of the arms."""
    rows = []
    for setting in settings:
        about = measured(setting.name)
        gains = [setting.minus("L", "off"), setting.minus("M", "off"), setting.minus("M", "L")]
        rows.append(
            [
                setting.name + ("" if setting.known else " (unseen by the first rule)"),
                *measures(about),
                *(gain.text() for gain in gains),
                judged(setting, first_rule(about)),
                judged(setting, arm_of(advise(about))),
            ]
        )
    return Table("", ["setting", *MEASURES, "L - off", "M - off", "M - L", "first rule", "rule now"], rows)


MEASURES = ["h (k = 20)", "loss / ln B, training", "held-out", "kind", "hard pairs add (of ln B)"]


def measures(about: Measured) -> list[str]:
    held_out = "" if about.held_out is None else f"{about.held_out.share:.2f}"
    added = "" if about.added is None else f"{about.added:+.3f}"
    return [f"{about.dose:.3g}", f"{about.training.share:.2f}", held_out, about.kind, added]


def measured_table() -> Table:
    """Every measured setting, also those without a training."""
    rows = []
    for file in sorted((RESULTS / "measured").glob("*.json")):
        about = measured(file.stem)
        assert math.isclose(about.training.chance, math.log(about.batch_size))
        rows.append([file.stem, *measures(about), arm_of(advise(about))])
    return Table("", ["setting", *MEASURES, "advice"], rows)
