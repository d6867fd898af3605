"""The arms, the trials among which `val` chooses, and the runs of every stage.

A recipe is a tuple of overrides of train.py. Learning rates are those of batch 32.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Recipe = tuple[str, ...]
MODEL = "icons_small"
ICONS = Path(__file__).parents[1] / "icons"
BASES = {name: ICONS / f"{name}.pt" for name in ("falling", "middle", "spent-1", "spent-2")}
BASES["falling-120k"] = Path(__file__).parent / "falling-120k.pt"
BATCH, ROWS = 32, 20_000
EXACT = 20_000  # rows; of more an exact search takes minutes
SEEDS = (1, 2, 3, 4, 5)
SELECTION_SEED = 101
RATES = (2e-4, 4e-4)

OFF: Recipe = ('helip="off"',)
RANDOM: Recipe = ("helip=random",)
PARTNERS: Recipe = ("helip=paper",)
GRAPH: Recipe = ("helip=paper", "helip.plan=graph")
NO_MARGIN: Recipe = ("helip.margin=none",)
HNML: Recipe = ("helip.margin=hnml",)
PLACEBO: Recipe = ("helip.placebo=true",)


def _each(*recipes: Recipe) -> list[Recipe]:
    """Every recipe with both learning rates."""
    return [(*recipe, f"optim.lr={rate}") for recipe in recipes for rate in RATES]


def _once(*recipes: Recipe) -> list[Recipe]:
    """Every recipe with the lower learning rate."""
    return [(*recipe, f"optim.lr={RATES[0]}") for recipe in recipes]


def _constant(*recipe: str) -> list[Recipe]:
    return _each(*((*recipe, "helip.margin=constant", f"helip.margin.m={m}") for m in (0.3, 0.6)))


def _similarity(*recipe: str) -> list[Recipe]:
    return _each(*((*recipe, "helip.margin=similarity", f"helip.margin.gamma={gamma}") for gamma in (0.5, 1.0)))


# Four trials an arm.
TRIALS: dict[str, list[Recipe]] = {
    "off": _each(OFF) + _once((*OFF, "train.logit_scale=10"), (*OFF, "optim.weight_decay=1.0")),
    "constant": _constant(*OFF),
    "similarity": _similarity(*OFF),
    "random": _each((*RANDOM, *NO_MARGIN)) + _once((*RANDOM, *HNML), (*RANDOM, *NO_MARGIN, "train.logit_scale=10")),
    "partners": _each((*PARTNERS, *NO_MARGIN)) + _once((*PARTNERS, *HNML), (*PARTNERS, *NO_MARGIN, "helip.topk=50")),
    "partners_constant": _constant(*PARTNERS),
    "graph": _each((*GRAPH, *NO_MARGIN, "helip.cluster=8"))
    + _once(
        (*GRAPH, *NO_MARGIN, "helip.cluster=4"),
        (*GRAPH, *NO_MARGIN, "helip.cluster=8", "helip.skip_first=10", "helip.topk=30"),
    ),
    "graph_constant": _constant(*GRAPH, "helip.cluster=8"),
}
L_ARMS = ("constant", "similarity")
M_ARMS = ("partners", "graph", "partners_constant", "graph_constant")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        stage: folder of its result.
        arm: name in tables.
        recipe: overrides.
        base: name of the starting checkpoint.
        rows: of the training part.
        parts: that are measured at the end.
        dataset: an option of conf/dataset.
        epochs: passes over the training part.
    """

    stage: str
    arm: str
    recipe: Recipe
    seed: int
    base: str = "spent-1"
    batch: int = BATCH
    rows: int = ROWS
    parts: tuple[str, ...] = ("test", "unseen", "val")
    dataset: str = "icons"
    epochs: float = 2

    @property
    def key(self) -> str:
        """Name of its result."""
        return f"{self.arm}-{self.base}-b{self.batch}-n{self.rows}-s{self.seed}"

    @property
    def start(self) -> list[str]:
        """Overrides: the model, its weights, and the evaluators of train.py."""
        if self.dataset == "emoji":
            return []
        evaluators = "evaluation.evaluators=[{kind:retrieval,part:val,group:caption}]"
        return [f"model={MODEL}", f"model.pretrained={BASES[self.base]}", evaluators]

    @property
    def length(self) -> str:
        """An override: whole epochs, or the steps of a part of one."""
        if self.epochs >= 1:
            return f"train.epochs={self.epochs:g}"
        return f"train.max_steps={math.ceil(self.rows * self.epochs / self.batch)}"

    @property
    def overrides(self) -> list[str]:
        """Of train.py; the learning rate follows the square root of the batch."""
        rate = next(float(part.partition("=")[2]) for part in self.recipe if part.startswith("optim.lr="))
        recipe = [part for part in self.recipe if not part.startswith("optim.lr=")]
        return [
            f"dataset={self.dataset}",
            *self.start,
            "encoders=clip",
            "trainer=cpu",
            "data.workers=0",
            self.length,
            *(["search.backend=approximate"] if self.rows > EXACT else []),
            "train.evaluate=end",
            "train.keep_checkpoints=1",
            "train.log_every=50",
            f"data.batch_size={self.batch}",
            f"optim.lr={rate * math.sqrt(self.batch / BATCH):g}",
            f"seed={self.seed}",
            *recipe,
        ]


def selection() -> list[Run]:
    """Every trial of every arm, on val alone."""
    return [
        Run("selection", f"{arm}.{number}", recipe, SELECTION_SEED, parts=("val",))
        for arm, trials in TRIALS.items()
        for number, recipe in enumerate(trials)
    ]


def final(chosen: dict[str, Recipe], controls: dict[str, Recipe]) -> list[Run]:
    """Ten runs an arm: five seeds from each of two bases."""
    arms = chosen | controls
    return [
        Run("final", arm, arms[arm], seed, base) for seed in SEEDS for base in ("spent-1", "spent-2") for arm in arms
    ]


def _three(chosen: dict[str, Recipe], stage: str, **setting: Any) -> list[Run]:
    """off, L and M with three seeds."""
    return [Run(stage, arm, recipe, seed, **setting) for seed in SEEDS[:3] for arm, recipe in chosen.items()]


def surface(chosen: dict[str, Recipe]) -> list[Run]:
    """By batch and rows, the inner points."""
    return [
        *_three(chosen, "surface", batch=64),
        *_three(chosen, "surface", batch=32, rows=2_500, dataset="icons_2k"),
        *_three(chosen, "surface", batch=256, rows=2_500, dataset="icons_2k"),
        *_three(chosen, "surface", batch=256),
    ]


def saturation(chosen: dict[str, Recipe]) -> list[Run]:
    """By base."""
    return [run for base in ("falling", "middle") for run in _three(chosen, "saturation", base=base)]


def advice(chosen: dict[str, Recipe]) -> list[Run]:
    """Settings that the rule of `advise` has not seen."""
    many = _three(chosen, "advice", base="falling-120k", batch=64, rows=120_000, dataset="icons_120k", epochs=0.5)
    return [*_three(chosen, "advice", dataset="icons_unseen"), *many]


def outer(chosen: dict[str, Recipe]) -> list[Run]:
    """The outer point of the surface, which is dropped first when time is short."""
    return _three(chosen, "surface", batch=16)


def emoji(chosen: dict[str, Recipe]) -> list[Run]:
    """The embedded data at a dose like CC3M's, with unchanged recipes."""
    return [
        run
        for batch in (16, 8)
        for run in _three(chosen, "emoji", base="emoji", batch=batch, rows=3_232, dataset="emoji", parts=(), epochs=4)
    ]
