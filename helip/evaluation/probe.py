"""Linear probe: logistic regression on frozen image embeddings, by the protocol of CLIP (arXiv 2103.00020, A.3).

The fit is L-BFGS on the whole training set. The L2 strength is searched on a validation split from 1e-6 to 1e6: first
in hundredfold steps, then in halved steps around the best, down to 8 a decade. The model is then fitted with the best
strength on training and validation rows together, and measured on the test split. CLIP takes the features before its
projection; clip-benchmark and this probe take the embeddings themselves, of length 1.

Legend: n pictures, d embedding width, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from helip.errors import HelipError
from helip.evaluation.directories import OnDirectory, open_set
from helip.evaluation.embed import Absent, Embed, Evaluator, Found, OnPart
from helip.evaluation.metrics import accuracy_samples
from helip.evaluation.prompts import classes_of

DECADES, PER_DECADE = (-6, 6), 8
COARSE = 2 * PER_DECADE  # CLIP's first grid: 1e-6, 1e-4, ..., 1e6
HELD_OUT = 0.2  # share of each class for validation where a set has no such split (assumption; not in the paper)
ITERATIONS = 1000  # CLIP's limit
ROWS = 1 << 16  # training rows whose C scores are in memory together


@dataclass(frozen=True)
class Fit:
    """A fitted probe: the weights, with the bias in the last row, and the L2 strength."""

    weights: NDArray[np.float64]  # (d + 1, C)
    strength: float

    def samples(self, features: NDArray, labels: NDArray) -> Found:
        """Accuracies on (n, d) features."""
        return accuracy_samples(with_one(features), self.weights, labels)


def with_one(features: NDArray) -> NDArray:
    """(n, d + 1) features with a last column of ones, for the bias."""
    return np.concatenate([features, np.ones((len(features), 1), features.dtype)], 1)


def fit_logistic(
    features: NDArray,
    labels: NDArray,
    classes: int,
    strength: float,
    device: torch.device | str = "cpu",
    start: NDArray | None = None,
    tolerance: float = 1e-5,
) -> NDArray[np.float64]:
    """Multinomial logistic regression: sum of cross-entropies + strength / 2 * |W|^2, without a penalty on the bias.

    scikit-learn's LogisticRegression(C=1 / strength) has the same minimum.

    Args:
        features: (n, d).
        labels: (n,) integers in 0..classes-1.
        classes: C.
        strength: of the L2 penalty, above 0.
        device: where to compute, in float64 on the CPU and float32 elsewhere.
        start: (d + 1, C) weights to begin with, such as those of a near strength; None: zeros.
        tolerance: the fit stops when no entry of the gradient (of the mean over the rows) is larger.

    Returns:
        (d + 1, C) weights, the last row is the bias.
    """
    dtype = torch.float64 if torch.device(device).type == "cpu" else torch.float32
    x = torch.as_tensor(with_one(features), dtype=dtype, device=device)  # (n, d + 1)
    y = torch.as_tensor(labels, device=device)
    penalty = torch.full((x.shape[1], 1), strength / len(x), dtype=dtype, device=device)
    penalty[-1] = 0  # the bias
    begin = np.zeros((x.shape[1], classes)) if start is None else start
    weights = torch.nn.Parameter(torch.as_tensor(begin, dtype=dtype, device=device).clone())
    optimizer = torch.optim.LBFGS(
        [weights], 1.0, ITERATIONS, 2 * ITERATIONS, tolerance, 1e-12, 10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        with torch.no_grad():  # a gradient by hand needs no graph, and only a block of rows at a time
            loss, gradient = (penalty * weights.square()).sum() / 2, penalty * weights
            for first in range(0, len(x), ROWS):
                rows, label = x[first : first + ROWS], y[first : first + ROWS]
                logs = torch.log_softmax(rows @ weights, 1)  # (ROWS, C)
                loss = loss - logs.gather(1, label[:, None]).sum() / len(x)
                error = logs.exp()
                error[torch.arange(len(label), device=device), label] -= 1
                gradient = gradient + rows.T @ error / len(x)
            weights.grad = gradient
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return weights.detach().double().cpu().numpy()


def hold_out(labels: NDArray, seed: int = 0) -> NDArray[np.bool_]:
    """(n,) bool, the validation rows: a fifth of every class, at least one row but never all."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(HELD_OUT * len(rows))), len(rows) - 1)
        chosen[rng.permutation(rows)[:count]] = True
    return chosen


def sweep(
    train: tuple[NDArray, NDArray], val: tuple[NDArray, NDArray], classes: int, device: torch.device | str = "cpu"
) -> Fit:
    """A fit on all rows with the strength of the best validation accuracy; ties are broken by the lower loss.

    Args:
        train: (n, d) features and (n,) labels.
        val: likewise.
        classes: C.
        device: where to compute.
    """
    last = (DECADES[1] - DECADES[0]) * PER_DECADE
    fitted: dict[int, NDArray] = {}
    scores: dict[int, tuple[float, float]] = {}

    def strength(step: int) -> float:
        return 10 ** (DECADES[0] + step / PER_DECADE)

    def score(step: int) -> None:
        if step in scores or not 0 <= step <= last:
            return
        near = min(fitted, key=lambda known: abs(known - step), default=None)  # a near start saves most iterations
        start = fitted[near] if near is not None else None
        fitted[step] = fit_logistic(*train, classes, strength(step), device, start)
        scores[step] = validation_score(fitted[step], *val)

    for step in range(last, -1, -COARSE):  # the strongest is the quickest to fit
        score(step)
    width = COARSE
    while width > 1:
        width //= 2
        peak = max(scores, key=scores.__getitem__)
        score(peak - width)
        score(peak + width)
    best = max(scores, key=scores.__getitem__)
    features, labels = (np.concatenate(pair) for pair in zip(train, val, strict=True))
    return Fit(fit_logistic(features, labels, classes, strength(best), device, fitted[best]), strength(best))


def validation_score(weights: NDArray, features: NDArray, labels: NDArray) -> tuple[float, float]:
    """Accuracy, and minus the mean cross-entropy, which breaks the ties that are frequent on a small split."""
    logs = torch.log_softmax(torch.from_numpy(with_one(features) @ weights), 1).numpy()  # (n, C)
    return float((logs.argmax(1) == labels).mean()), float(logs[np.arange(len(labels)), labels].mean())


def probe_samples(
    train: tuple[NDArray, NDArray],
    test: tuple[NDArray, NDArray],
    classes: int,
    device: torch.device | str = "cpu",
    val: tuple[NDArray, NDArray] | None = None,
) -> Found:
    """`probe_top1`, `probe_mean_per_class` and, with more than five classes, `probe_top5` on the test rows.

    Args:
        train: (n, d) features and (n,) labels.
        test: likewise.
        classes: C.
        device: where to compute.
        val: as `train`; None: a fifth of every class of `train` is held out.

    Raises:
        HelipError: fewer than two classes to train on.
    """
    if len(np.unique(train[1])) < 2:
        raise HelipError("A linear probe needs training pictures of at least two classes: check the labels.")
    if val is None:
        held = hold_out(train[1])
        train, val = (train[0][~held], train[1][~held]), (train[0][held], train[1][held])
    fit = sweep(train, val, classes, device)
    return {f"probe_{key}": sampled for key, sampled in fit.samples(*test).items()}


def evaluator(line: Mapping[str, Any]) -> type[Evaluator]:
    """The class for a line of the configuration: on a directory, or on parts of the dataset."""
    return DirectoryProbe if "path" in line else PartProbe


@dataclass(frozen=True)
class DirectoryProbe(OnDirectory):
    """Linear probe on the splits of a directory: clip-benchmark's, or with class folders in a folder for each split.

    Attributes:
        train: split to train on.
        val: split on which the strength is chosen; None: a fifth of every class of `train`.
    """

    train: str = "train"
    val: str | None = None

    def run(self, embed: Embed) -> Found:
        sets = [open_set(self.path, name, embed.transform) for name in (self.train, self.split, self.val) if name]
        names = sets[0].names
        if any(one.captions is not None or one.names != names for one in sets):
            raise HelipError(f"the splits of {self.path} differ in their classes or have none: give a labelled set")
        if len({one.key for one in sets}) < len(sets):
            raise HelipError(f"the probe {self.name} would be tested on its own training rows: name different splits")
        train, test, *val = [(embed.images(one), one.labels) for one in sets]
        classes = max(int(one.labels.max()) for one in sets) + 1
        return probe_samples(train, test, classes, embed.device, *val)


@dataclass(frozen=True)
class PartProbe(OnPart):
    """Linear probe on parts of the dataset, by a field of their json.

    Attributes:
        part: part to measure on, without its rows of classes that the training part lacks.
        label: json field whose distinct values are the classes.
        train: part to train on.
        val: part on which the strength is chosen; None: a fifth of every class of `train`.
    """

    label: str
    train: str = "train"
    val: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(name for name in (self.train, self.part, self.val) if name)

    def run(self, embed: Embed) -> Found:
        if len(set(self.parts)) < len(self.parts):
            raise HelipError(f"the probe {self.name} would be tested on its own training rows: name different parts")
        number: dict[str, int] = {}  # of each class of the training part, which comes first
        found = []
        for name in self.parts:
            image, _, rows = embed.part(name)
            labels = embed.fields(rows, self.label)
            number = number or {one: place for place, one in enumerate(classes_of(labels)[0])}
            label = np.array([number.get(one, -1) for one in labels], np.int64)
            if not (label >= 0).any():
                raise Absent(f"no row of part {name} has a class in the field {self.label!r}: name a json field")
            found.append((image[label >= 0], label[label >= 0]))
        train, test, *val = found
        metrics = probe_samples(train, test, len(number), embed.device, *val)
        return {key.replace("probe_", f"probe_{self.label}_"): sampled for key, sampled in metrics.items()}
