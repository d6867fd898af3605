"""The settings of a search."""

from dataclasses import dataclass, fields
from typing import Any, cast

from helip.errors import HelipError
from helip.typed import marked, operation, result, role_of

SCORES = ("joint", "image", "text")
BACKENDS = ("auto", "exact", "approximate", "pool")
Limit = float | tuple[float, float] | list[float]


@dataclass(frozen=True)
class Rules:
    """The settings that a fused pass needs.

    Attributes:
        score: position in SCORES.
        low_image, low_text: the bound of a similarity that enters the score must be above this.
    """

    score: int
    low_image: float
    low_text: float


@dataclass(frozen=True)
class SearchSettings:
    """The rules of a hard pair and the way to find it.

    A similarity below `min_similarity` or above `near_duplicate` makes a pair's score 0, and a pair of score 0 is never
    stored. The near-duplicate limit applies to both modalities whatever `score` is, because a copy is no hard negative;
    `min_similarity` applies only to the similarities that enter the score.

    Attributes:
        score: "joint" ranks by the product of both cosines, "image" and "text" by one of them.
        depth: partners stored per row.
        near_duplicate: highest cosine of a hard pair; a pair of numbers means (image, text); 1 switches it off.
        min_similarity: lowest cosine of a hard pair; a pair of numbers means (image, text).
        skip_first: leave out this many of the hardest pairs of each row (a rank window).
        backend: "auto", "exact", "approximate", "pool", or the dotted name of a class that makes a
            helip.mining.plan.Search when it is called with (pairs, settings, device, folder).
        min_recall: recall that "approximate" must reach at the lower end of its confidence interval.
        pool_size: rows drawn as candidates by "pool".
        pool_redraw: targets after which a new pool is drawn; 0 keeps one pool. The released script uses 300,000.
        seed: of every random draw (pools, probes, the training sample of the index).
        block_rows: targets per unit of work and of resuming; 0: 4,096 (on a GPU 32,768). It does not change results.
        memory: bytes of rounded embeddings kept in memory, the rest goes to disk. It does not change results.
    """

    score: str = result(default="joint", inner=True)
    depth: int = operation(default=100)  # a deeper index begins with a shallower one
    near_duplicate: Limit = result(default=(0.98, 0.98), inner=True)
    min_similarity: Limit = result(default=(0.0, 0.0), inner=True)
    skip_first: int = result(default=0, inner=True)
    backend: str = result(default="auto")
    min_recall: float = result(default=0.99, of=("approximate", "auto"))
    pool_size: int = result(default=100_000, of=("pool",))
    pool_redraw: int = result(default=0, inner=True, of=("pool",))
    seed: int = result(default=0, inner=True, of=("approximate", "auto", "pool"))
    block_rows: int = operation(default=0, inner=True)
    memory: int = operation(default=1 << 30, inner=True)

    def __post_init__(self) -> None:
        """Raises HelipError, with the name of the setting, for a value that cannot be used."""
        _one_of("helip.score", self.score, SCORES)
        if not self.own_backend:
            _one_of("search.backend", self.backend, BACKENDS, ", or a dotted name")
        _at_least("search.depth", self.depth, 1)
        _at_least("helip.skip_first", self.skip_first, 0)
        _at_least("search.pool_size", self.pool_size, 1)
        _at_least("pool_redraw", self.pool_redraw, 0)
        _at_least("block_rows", self.block_rows, 0)
        if not 0 < self.min_recall < 1:
            raise HelipError(f"search.min_recall is {self.min_recall}, but must lie between 0 and 1 (both excluded).")
        object.__setattr__(self, "near_duplicate", _limits("helip.near_duplicate", self.near_duplicate))
        object.__setattr__(self, "min_similarity", _limits("helip.min_similarity", self.min_similarity))
        for name, low, high in zip(("image", "text"), self.lows, self.highs, strict=True):
            if low > high:
                raise HelipError(
                    f"helip.min_similarity is {low} and helip.near_duplicate {high} for {name}, which no pair meets: "
                    "lower the first or raise the second."
                )

    @property
    def own_backend(self) -> bool:
        """Whether `backend` is the dotted name of a class."""
        return "." in self.backend

    @property
    def lows(self) -> tuple[float, float]:
        """min_similarity of (image, text); that of a similarity outside the score is minus infinity."""
        low_image, low_text = cast(tuple[float, float], self.min_similarity)
        none = float("-inf")
        return (none if self.score == "text" else low_image, none if self.score == "image" else low_text)

    @property
    def highs(self) -> tuple[float, float]:
        """near_duplicate of (image, text)."""
        return cast(tuple[float, float], self.near_duplicate)

    def unit(self, device: str) -> int:
        """Targets per unit of work on a device."""
        return self.block_rows or (4096 if device == "cpu" else 32_768)

    def identity(self) -> dict[str, Any]:
        """The settings that the result depends on, JSON-like; an artefact's hash is computed from them."""
        backends = marked(type(self), "of")
        names = [one.name for one in fields(self) if role_of(one) == "result"]
        used = [name for name in names if self.own_backend or self.backend in backends.get(name, BACKENDS)]
        values = {name: getattr(self, name) for name in (*used, "depth")}
        return {name: list(cast(Any, value)) if isinstance(value, tuple) else value for name, value in values.items()}


def _one_of(name: str, value: str, choices: tuple[str, ...], more: str = "") -> None:
    if value not in choices:
        raise HelipError(f"{name}={value} is unknown: choose one of {', '.join(choices)}{more}.")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise HelipError(f"{name} is {value}, but must be at least {least}.")


def _limits(name: str, value: Limit) -> tuple[float, float]:
    pair = (value, value) if isinstance(value, int | float) else tuple(value)
    if len(pair) != 2 or not all(-1 <= x <= 1 for x in pair):
        raise HelipError(f"{name}={value} must be one number or an (image, text) pair of numbers from -1 to 1.")
    return float(pair[0]), float(pair[1])
