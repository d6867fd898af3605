"""The linear probe against scikit-learn on the same features."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from helip.errors import HelipError
from helip.evaluation.directories import open_set
from helip.evaluation.embed import Absent
from helip.evaluation.probe import (
    DirectoryProbe,
    Fit,
    PartProbe,
    fit_logistic,
    hold_out,
    probe_samples,
    sweep,
    with_one,
)
from helip.evaluation.samples import values_of
from helip.evaluation.suite import build_evaluators
from tests.evaluation.wds import write_classification, write_retrieval
from tests.pretend import pretend_gpu

CLASSES, WIDTH = 7, 30


@pytest.fixture(scope="module")
def rows():
    """280 unit features of overlapping classes, and their labels."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(CLASSES), 40)
    features = rng.normal(size=(CLASSES, WIDTH))[label] + 3 * rng.normal(size=(len(label), WIDTH))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    order = rng.permutation(len(label))
    return features[order].astype(np.float32), label[order]


def reference(features, label, strength):
    """scikit-learn's own model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a weak penalty reaches its limit of iterations
        return LogisticRegression(C=1 / strength, tol=1e-9, max_iter=2000).fit(features, label)


def probabilities(weights, features):
    return torch.softmax(torch.from_numpy(with_one(features) @ weights), 1).numpy()


@pytest.mark.parametrize("strength", [1e-2, 1.0, 1e3])
def test_one_strength_equals_scikit_learn(rows, strength):
    features, label = rows
    weights = fit_logistic(features, label, CLASSES, strength, tolerance=1e-8)
    expected = reference(features.astype(np.float64), label, strength)
    difference = np.abs(probabilities(weights, features) - expected.predict_proba(features)).max()
    print(f"largest difference of a probability at {strength:g}: {difference:.1e}")
    assert difference < 1e-4
    assert np.abs(weights[:-1] - expected.coef_.T).max() < 1e-3 * max(1, np.abs(expected.coef_).max())


def test_where_it_begins_and_blocks_of_rows_do_not_matter(rows, monkeypatch):
    features, label = rows
    whole = fit_logistic(features, label, CLASSES, 0.5, tolerance=1e-8)
    monkeypatch.setattr("helip.evaluation.probe.ROWS", 33)
    begun = fit_logistic(features, label, CLASSES, 0.5, start=np.ones((WIDTH + 1, CLASSES)), tolerance=1e-8)
    assert np.abs(probabilities(whole, features) - probabilities(begun, features)).max() < 1e-5


def test_the_whole_protocol_equals_scikit_learn(rows):
    """The reference is CLIP's sweep with scikit-learn: 1e-6, 1e-4, ..., then around the best down to 8 a decade."""
    features, label = rows
    train, val, test = ((features[part], label[part]) for part in (slice(0, 150), slice(150, 200), slice(200, 280)))

    def score(exponent):
        model = reference(*train, 10**exponent)
        return (model.predict(val[0]) == val[1]).mean(), -log_loss(val[1], model.predict_proba(val[0]))

    known = {exponent: score(exponent) for exponent in np.arange(-6.0, 7.0, 2.0)}
    for width in (1.0, 0.5, 0.25, 0.125):
        peak = max(known, key=lambda exponent: known[exponent])
        known |= {e: score(e) for e in (peak - width, peak + width) if -6 <= e <= 6 and e not in known}
    best = max(known, key=lambda exponent: known[exponent])
    both = np.concatenate([train[0], val[0]]), np.concatenate([train[1], val[1]])
    expected = reference(*both, 10**best)

    fit = sweep(train, val, CLASSES)
    assert fit.strength == pytest.approx(10**best) and 1e-6 < fit.strength < 1e6
    assert np.array_equal(np.argmax(with_one(test[0]) @ fit.weights, 1), expected.predict(test[0]))
    got = values_of(probe_samples(train, test, CLASSES, val=val))
    assert got["probe_top1"] == (expected.predict(test[0]) == test[1]).mean()
    assert 0.4 < got["probe_top1"] < 1 and got["probe_top5"] >= got["probe_top1"]


def test_held_out_rows_are_a_fifth_of_every_class():
    labels = np.array([0] * 10 + [1] * 5 + [2] * 2 + [3])
    held = hold_out(labels)
    assert [int(held[labels == label].sum()) for label in range(4)] == [2, 1, 1, 0]
    assert np.array_equal(held, hold_out(labels)) and not np.array_equal(held, hold_out(labels, seed=1))


class Corners:
    """An Embed in which a picture or row points along the axis of its class."""

    device = torch.device("cpu")

    def __init__(self, labels=None):
        self.labels = labels or {}
        self.embedded: list = []

    @property
    def transform(self):
        return lambda image: torch.zeros(1)

    def images(self, dataset):
        self.embedded.append(dataset.key)
        return np.eye(4)[dataset.labels]

    def part(self, part):
        labels = self.labels[part]
        known = np.array([{"a": 0, "b": 1, "c": 2}.get(label, 3) for label in labels])
        return np.eye(4)[known], np.eye(4)[known], np.arange(len(labels)) + 100 * len(part)

    def fields(self, rows, field):
        assert field == "kind"
        labels = next(v for k, v in self.labels.items() if len(k) == rows[0] // 100)
        return [labels[row % 100] for row in rows]


def test_a_directory_is_probed_on_its_splits(tmp_path):
    folder = write_classification(
        tmp_path, ["a", "b", "c"], ["{c}"], {"train": [0, 1, 2] * 5, "test": [0, 2, 2, 1], "val": [1, 0]}
    )
    embed = Corners()
    (line,) = build_evaluators([{"kind": "probe", "path": str(folder), "name": "p", "val": "val"}])
    assert line == DirectoryProbe("p", str(folder), val="val")
    assert values_of(line.run(embed)) == {"probe_top1": 1.0, "probe_mean_per_class": 1.0}  # type: ignore[arg-type]
    assert embed.embedded == [(str(folder), split) for split in ("train", "test", "val")]


def test_captions_are_no_classes(tmp_path):
    folder = write_retrieval(tmp_path, [["one"], ["two"]])
    assert open_set(str(folder), "test", lambda image: torch.zeros(1)).captions
    with pytest.raises(HelipError, match="differ in their classes or have none"):
        DirectoryProbe("p", str(folder), train="test").run(Corners())  # type: ignore[arg-type]


def test_noise_without_splits_is_not_probed(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            noise = rng.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{number}.png")
    for line in ({}, {"val": "val"}):
        with pytest.raises(Absent, match="has no folder train"):
            DirectoryProbe("p", str(tmp_path), **line).run(Corners())  # type: ignore[arg-type]


@pytest.mark.parametrize("line", [{"train": "test"}, {"val": "test"}, {"val": "train"}])
def test_what_is_fitted_to_is_not_tested_on(tmp_path, line):
    folder = write_classification(tmp_path, ["a", "b"], ["{c}"], {"train": [0, 1] * 5, "test": [0, 1]})
    labels = {"train": ["a", "b"] * 5, "test": ["a", "b"]}
    for probe in (DirectoryProbe("p", str(folder), **line), PartProbe("p", "test", "kind", **line)):
        with pytest.raises(HelipError, match="the probe p would be tested on its own training rows"):
            probe.run(Corners(labels))  # type: ignore[arg-type]


def test_parts_are_probed_by_a_field():
    labels = {"train": ["a", "b", "c", ""] * 5, "test": ["a", "b", "never trained on", ""]}
    got = PartProbe("test", "test", "kind").run(Corners(labels))  # type: ignore[arg-type]
    assert values_of(got) == {"probe_kind_top1": 1.0, "probe_kind_mean_per_class": 1.0}
    assert len(got["probe_kind_top1"].values) == 2  # rows 2 and 3 have no class of the training part
    with pytest.raises(Absent, match="no row of part test has a class in the field 'kind'"):
        PartProbe("test", "test", "kind").run(Corners(labels | {"test": ["z"]}))  # type: ignore[arg-type]


def test_one_class_cannot_be_probed():
    with pytest.raises(HelipError, match="at least two classes"):
        probe_samples((np.eye(3), np.zeros(3, int)), (np.eye(3), np.zeros(3, int)), 2)


def test_a_fit_measures_with_its_bias():
    fit = Fit(np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 0.0]]), 1.0)  # the bias outweighs every feature
    assert values_of(fit.samples(np.eye(2), np.array([0, 1])))["top1"] == 0.5


def test_a_probe_on_a_gpu_stays_there(rows, monkeypatch):
    features, label = rows
    cpu = fit_logistic(features, label, CLASSES, 1.0)
    with pretend_gpu(monkeypatch):
        gpu = fit_logistic(features, label, CLASSES, 1.0, "cuda", start=0.9 * cpu)
    np.testing.assert_allclose(probabilities(gpu, features), probabilities(cpu, features), atol=1e-3)
