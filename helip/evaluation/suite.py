"""Evaluators are data: what to measure on which part or set. Every rank runs them, or none.

What an `Embed` returns is gathered, so all ranks compute the same numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from torch.utils.data import Dataset

from helip.errors import HelipError
from helip.evaluation.compositional import SugarCrepe
from helip.evaluation.directories import DirectoryRetrieval, DirectoryZeroShot, ImageNet
from helip.evaluation.embed import Absent, Embed, Evaluator, Found
from helip.evaluation.imagenet import class_folders
from helip.evaluation.neighbours import Neighbours
from helip.evaluation.parts import Retrieval, ZeroShot
from helip.evaluation.probe import DirectoryProbe, PartProbe
from helip.evaluation.samples import values_of

# kind -> the class for a part of the dataset, and the one for a directory (a line with `path`)
KINDS: dict[str, tuple[Callable[..., Evaluator], Callable[..., Evaluator]]] = {
    "retrieval": (Retrieval, DirectoryRetrieval),
    "zeroshot": (ZeroShot, DirectoryZeroShot),
    "probe": (PartProbe, DirectoryProbe),
    "imagenet": (ImageNet, ImageNet),
    "sugarcrepe": (SugarCrepe, SugarCrepe),
    "neighbours": (Neighbours, Neighbours),
}


def build_evaluators(
    specs: Sequence[Mapping[str, Any]],
    imagenet: str | None = None,
    sets: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Evaluator, ...]:
    """Evaluators from a configuration's lines, such as `{kind: retrieval, part: test}`; `name` defaults to the part.

    Args:
        specs: `kind` and the fields of its class.
        imagenet: directory of wnid folders, or None.
        sets: name -> line, as the presets of conf/evaluation have them.

    Raises:
        HelipError: an unknown kind, a field that is missing, unknown or of a wrong value, or a wrong `imagenet`.
    """
    named = [{"name": name, **line} for name, line in (sets or {}).items()]
    built = [_build(line) for line in (*specs, *named)]
    if imagenet is not None:
        class_folders(imagenet)  # a mistyped path is an error now, not after an hour of training
        built.append(ImageNet("imagenet", imagenet))
    return tuple(built)


def _build(line: Mapping[str, Any]) -> Evaluator:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in line.items() if k != "kind"}
    if line.get("kind") not in KINDS:
        raise HelipError(f"Evaluator kind {line.get('kind')!r} is unknown: use one of {', '.join(KINDS)}.")
    name = fields["name"] = str(fields.get("name") or fields.get("part") or line["kind"])
    if "/" in name:  # where a metric's name ends and its evaluator's begins
        raise HelipError(f"Evaluator {dict(line)}: the name {name} has a slash; give it a `name:` without one.")
    every = fields.get("every")
    if every is not None and (not isinstance(every, int) or every < 1):
        raise HelipError(f"Evaluator {dict(line)}: every={every} must be a number of steps from 1.")
    try:
        return KINDS[line["kind"]]["path" in fields](**fields)
    except TypeError as error:
        raise HelipError(f"Evaluator {dict(line)} does not fit ({error}): correct its fields.") from error


class _Remembered:
    """Embeds each part and each set once, however many evaluators look at it."""

    def __init__(self, embed: Embed) -> None:
        self.transform, self.device, self.texts = embed.transform, embed.device, embed.texts
        self.classifier, self.fields, self.captions = embed.classifier, embed.fields, embed.captions
        self.embed, self.known = embed, {}

    def part(self, part: str) -> tuple[NDArray, NDArray, NDArray]:
        if part not in self.known:
            self.known[part] = self.embed.part(part)
        return self.known[part]

    def images(self, dataset: Dataset) -> tuple[NDArray, NDArray]:
        key = getattr(dataset, "key", dataset)
        if key not in self.known:
            self.known[key] = self.embed.images(dataset)
        return self.known[key]


def measure_all(evaluators: Sequence[Evaluator], embed: Embed, say: Callable[[str], None] = print) -> Found:
    """Run every evaluator; metrics under flat names such as `test/t2i_recall@1` or `test/zeroshot_subgroup_top1`.

    Args:
        evaluators: what to measure.
        embed: the model; each part is embedded once.
        say: takes one line for each evaluator that is skipped because its data are not here.

    Raises:
        HelipError: two evaluators give a metric of one name.
    """
    remembered = _Remembered(embed)
    metrics: Found = {}
    for evaluator in evaluators:
        try:
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
