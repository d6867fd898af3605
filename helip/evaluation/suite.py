"""Builds evaluators from a configuration, and runs them.

All ranks run them together. An `Embed` returns gathered embeddings, so all ranks compute the same numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as fields_of
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from helip.errors import HelipError, nearest
from helip.evaluation.embed import Absent, Embed, Evaluator, Found, check_part
from helip.evaluation.imagenet import ImageNet
from helip.evaluation.samples import values_of
from helip.evaluation.wnid_folders import class_folders

SHOWN = 30  # json fields that a message lists


def build_evaluators(
    specs: Sequence[Mapping[str, Any]],
    imagenet: str | None = None,
    sets: Mapping[str, Mapping[str, Any]] | None = None,
    instantiate: Callable[[Mapping[str, Any]], Evaluator] | None = None,
) -> tuple[Evaluator, ...]:
    """Evaluators from a configuration's lines, such as `{kind: retrieval, part: test}`; `name` defaults to the part.

    `kind` is a module of this package whose function `evaluator` returns the class for a line; `_target_` is the dotted
    name of another class.

    Args:
        specs: lines with `kind` or `_target_`, and the fields of the class.
        imagenet: directory of wnid folders, or None.
        sets: name -> line, as in the presets of conf/evaluation.
        instantiate: makes the evaluator of a line with `_target_`.

    Raises:
        HelipError: an unknown kind, a field that is missing, unknown or of a wrong value, or a wrong `imagenet`.
    """
    named = [{"name": name, **line} for name, line in (sets or {}).items()]
    built = [_build(line, instantiate) for line in (*specs, *named)]
    if imagenet is not None:
        class_folders(imagenet)  # a mistyped path is an error now, not after an hour of training
        built.append(ImageNet("imagenet", imagenet))
    return tuple(built)


def _build(line: Mapping[str, Any], instantiate: Callable[[Mapping[str, Any]], Evaluator] | None) -> Evaluator:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in line.items() if k != "kind"}
    target = fields.get("_target_")
    kind = str(target).rpartition(".")[2] if target else line.get("kind")
    name = fields["name"] = str(fields.get("name") or fields.get("part") or kind)
    if "/" in name:  # separates the names of evaluator and metric
        raise HelipError(f"Evaluator {dict(line)}: the name {name} has a slash; give it a `name:` without one.")
    every = fields.get("every")
    if every is not None and (not isinstance(every, int) or every < 1):
        raise HelipError(f"Evaluator {dict(line)}: every={every} must be a number of steps from 1.")
    if target:
        if instantiate is None:
            raise HelipError(f"Evaluator {dict(line)}: _target_ works on the command line; in Python pass the object")
        made = instantiate(fields)
        if not isinstance(made, Evaluator):
            raise HelipError(f"Evaluator {dict(line)}: {target} must derive from helip.evaluation.embed.Evaluator")
        return made
    cls = _class_of(line)
    known = [one.name for one in fields_of(cls)]
    for unknown in fields.keys() - set(known):
        raise HelipError(
            f"Evaluator {dict(line)} has no field {unknown!r}{nearest(unknown, known, 0.6)}, but {', '.join(known)}."
        )
    try:
        return cls(**fields)
    except TypeError as error:
        raise HelipError(f"Evaluator {dict(line)} does not fit ({error}): correct its fields.") from error


def _class_of(line: Mapping[str, Any]) -> type[Evaluator]:
    """The class that the module `kind` chooses for a line."""
    kind = line.get("kind")
    where = f"helip.evaluation.{kind}"
    if isinstance(kind, str) and kind.isidentifier() and find_spec(where):
        choose = getattr(import_module(where), "evaluator", None)
        if choose is not None:
            return choose(line)
    kinds = sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef evaluator(" in path.read_text("utf-8")
    )
    raise HelipError(
        f"Evaluator kind {kind!r} is unknown{nearest(str(kind), kinds, 0.6)}: "
        f"use one of {', '.join(kinds)}, or _target_ with a class of your own."
    )


def check_parts(evaluators: Sequence[Evaluator], parts: Mapping[str, str]) -> None:
    """Raises HelipError for an evaluator of a part that the dataset, which has these `parts`, lacks."""
    for one in evaluators:
        for part in one.parts:
            try:
                check_part(part, parts)
            except HelipError as error:
                raise HelipError(f"evaluator {one.name}: {error}") from None


class _Remembered:
    """An Embed that embeds each part and each set once.

    It refuses a field that no row has, and reports the number of rows that lack one.
    """

    def __init__(self, embed: Embed, say: Callable[[str], None]) -> None:
        self.transform, self.device, self.texts = embed.transform, embed.device, embed.texts
        self.classifier = embed.classifier
        self.embed, self.known, self.said = embed, {}, set[str]()
        self._say, self.name = say, ""  # name of the evaluator that runs

    def part(self, part: str) -> tuple[NDArray, NDArray, NDArray]:
        if part not in self.known:
            self.known[part] = self.embed.part(part)
        return self.known[part]

    def images(self, dataset: Dataset) -> NDArray:
        key = getattr(dataset, "key", dataset)
        for note in getattr(dataset, "notes", ()):
            self.say(f"{self.name}: {note}")
        if key not in self.known:
            self.known[key] = self.embed.images(dataset)
        return self.known[key]

    def fields(self, rows: NDArray, field: str) -> list[str]:
        found = self.embed.fields(rows, field)
        self._count(rows, field, found)
        return found

    def captions(self, rows: NDArray, field: str | None) -> list[tuple[str, ...]]:
        found = self.embed.captions(rows, field)
        if field is not None:
            self._count(rows, field, found)
        return found

    def names(self, rows: NDArray) -> list[str]:
        return self.embed.names(rows)

    def _count(self, rows: NDArray, field: str, found: Sequence[Any]) -> None:
        lacking = np.array([not one for one in found], bool)
        if len(rows) and lacking.all():
            there = self.names(rows)
            listed = ", ".join(there[:SHOWN]) + (", ..." if len(there) > SHOWN else "")
            raise HelipError(
                f"evaluator {self.name}: no row has the field {field!r}{nearest(field, there, 0.6)}; "
                f"the json of the shards has {listed or 'no field'}"
            )
        if lacking.any():
            self.say(f"{self.name}: {lacking.sum():,} of {len(rows):,} rows lack the field {field!r}")

    def say(self, line: str) -> None:
        """Report a line once."""
        if line not in self.said:
            self.said.add(line)
            self._say(line)


def measure_all(evaluators: Sequence[Evaluator], embed: Embed, say: Callable[[str], None] = print) -> Found:
    """Run all evaluators.

    Args:
        evaluators: what to measure.
        embed: the model; each part is embedded once.
        say: takes a line for each evaluator that is skipped because its data are absent, and for each kind of sample
            that is left out.

    Returns:
        Metrics by flat names such as `test/t2i_recall@1` or `test/zeroshot_subgroup_top1`.

    Raises:
        HelipError: two evaluators give a metric of the same name, or no row has the field of an evaluator.
    """
    metrics: Found = {}
    remembered = _Remembered(embed, say)
    for evaluator in evaluators:
        try:
            remembered.name = evaluator.name
            found = evaluator.run(remembered)
        except Absent as reason:
            say(f"skipped {evaluator.name}: {reason}")
            continue
        named = {f"{evaluator.name}/{key}": sampled for key, sampled in found.items()}
        if twice := sorted(named.keys() & metrics.keys()):
            raise HelipError(f"two evaluators give {twice[0]}: give one of them a name of its own, by `name:`")
        metrics |= named
    return metrics


def evaluate_all(evaluators: Sequence[Evaluator], embed: Embed, say: Callable[[str], None] = print) -> dict[str, float]:
    """The metrics of `measure_all` without their samples."""
    return values_of(measure_all(evaluators, embed, say))
