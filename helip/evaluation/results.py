"""The content of results.json: flat metrics, and the same metrics as records of clip-benchmark."""

import re
from collections.abc import Mapping
from typing import Any

# The names of clip_benchmark 1.6.2: text retrieval finds captions for an image, image retrieval the reverse.
RETRIEVAL = {"i2t_recall@": "text_retrieval_recall@", "t2i_recall@": "image_retrieval_recall@"}
CLASSIFICATION = {"top1": "acc1", "top5": "acc5", "mean_per_class": "mean_per_class_recall"}
TASKS = {"zeroshot": "zeroshot_classification", "probe": "linear_probe"}
LANGUAGE = "en"  # of captions and prompts, in the records


def clip_benchmark_records(
    metrics: Mapping[str, float],
    *,
    dataset: str,
    model: str,
    pretrained: str,
    names: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """One record for each evaluator and task, with the keys and metric names of clip-benchmark; shares stay in 0..1.

    If two evaluators have the same name in `names`, only the first uses it, so that no record replaces another.

    Args:
        metrics: by flat names such as `test/t2i_recall@1` or `test/zeroshot_subgroup_top1`; mean and median ranks,
            which clip-benchmark does not have, are left out.
        dataset: name of the data; a record's `dataset` is this, the evaluator's name, and the label if there is one.
        model: open_clip's name of the architecture.
        pretrained: tag or file of the weights.
        names: evaluator -> clip-benchmark's own name of its data, such as `wds/vtab/cifar10`.
    """
    records: dict[tuple[str, str], dict[str, float | None]] = {}
    owners: dict[tuple[str, str], str] = {}

    def record(evaluator: str, task: str, label: str = "") -> dict[str, float | None]:
        places = [place for place in ((names or {}).get(evaluator), f"{dataset}/{evaluator}") if place]
        keys = [(f"{place}/{label}" if label else place, task) for place in places]
        own = next((key for key in keys if owners.setdefault(key, evaluator) == evaluator), keys[-1])
        return records.setdefault(own, {})

    for name, value in metrics.items():
        evaluator, _, metric = name.partition("/")
        kind, _, rest = metric.partition("_")
        if kind in TASKS:
            for ours, theirs in CLASSIFICATION.items():
                if rest == ours or rest.endswith(f"_{ours}"):
                    label = rest.removesuffix(ours).removesuffix("_")
                    found = record(evaluator, TASKS[kind], label)
                    prefix = "lp_" if kind == "probe" else ""
                    found.setdefault(f"{prefix}acc5", None)  # clip-benchmark has the key for any number of classes
                    found[prefix + theirs] = value
        elif kind == "compositional":  # image_acc is 1, because there is only one picture
            found = record(evaluator, "image_caption_selection", rest)
            found |= {"image_acc": 1.0, "text_acc": value, "acc": value}
        for ours, theirs in RETRIEVAL.items():
            if metric.startswith(ours):
                record(evaluator, "zeroshot_retrieval")[theirs + metric.removeprefix(ours)] = value
    common = {"model": model, "pretrained": pretrained, "language": LANGUAGE}
    return [{"dataset": place, "task": task, "metrics": found, **common} for (place, task), found in records.items()]


def file_name(record: Mapping[str, Any], column: str) -> str:
    """The file name of a record, after clip-benchmark's pattern {dataset}_{pretrained}_{model}_{language}_{task}.json.

    Args:
        record: from `clip_benchmark_records`.
        column: the checkpoint's heading in the table, in the place of `pretrained`, whose file name may not be unique.
    """
    parts = (record["dataset"], column, record["model"], record["language"], record["task"])
    return re.sub(r"[^\w.@+-]", "_", "_".join(parts)) + ".json"


def results(
    metrics: Mapping[str, Mapping[str, float]],
    *,
    dataset: str,
    model: str,
    pretrained: Mapping[str, str],
    about: Mapping[str, Any] | None = None,
    models: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of results.json.

    Args:
        metrics: column -> flat metrics, such as `{"before": ..., "after": ...}`.
        dataset: name of the data.
        model: open_clip's name of the architecture.
        pretrained: column -> tag or file of its weights.
        about: further entries: versions, commit, seconds.
        models: column -> architecture, where it is not `model`.
        names: as in `clip_benchmark_records`.
    """
    records = [
        record
        for column, values in metrics.items()
        for record in clip_benchmark_records(
            values,
            dataset=dataset,
            model=(models or {}).get(column, model),
            pretrained=pretrained[column],
            names=names,
        )
    ]
    flat = {column: dict(values) for column, values in metrics.items()}
    return {**(about or {}), "dataset": dataset, "model": model, "metrics": flat, "clip_benchmark": records}
