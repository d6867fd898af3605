"""What results.json holds: our flat metrics, and the same as records with the keys of clip-benchmark."""

from collections.abc import Mapping
from typing import Any

# The names of clip_benchmark 1.6.2: text retrieval finds captions for an image, image retrieval the reverse.
RETRIEVAL = {"i2t_recall@": "text_retrieval_recall@", "t2i_recall@": "image_retrieval_recall@"}
CLASSIFICATION = {"top1": "acc1", "top5": "acc5", "mean_per_class": "mean_per_class_recall"}


def clip_benchmark_records(
    metrics: Mapping[str, float], *, dataset: str, model: str, pretrained: str, language: str = "en"
) -> list[dict[str, Any]]:
    """One record for each evaluator and task, with the keys and metric names of clip-benchmark; shares stay in 0..1.

    Args:
        metrics: flat names such as `test/t2i_recall@1` or `test/zeroshot_subgroup_top1`; mean and median ranks, which
            clip-benchmark does not know, are left out.
        dataset: name of the data; a record's `dataset` is this and the evaluator's name, and the label if there is one.
        model: open_clip's name of the architecture.
        pretrained: tag or file of the weights.
        language: of the captions and prompts.
    """
    records: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        evaluator, _, metric = name.partition("/")
        for ours, theirs in CLASSIFICATION.items():
            if metric.startswith("zeroshot_") and metric.endswith(f"_{ours}"):
                label = metric.removeprefix("zeroshot").removesuffix(f"_{ours}").removeprefix("_")
                place = "/".join(part for part in (dataset, evaluator, label) if part)
                records.setdefault((place, "zeroshot_classification"), {})[theirs] = value
        for ours, theirs in RETRIEVAL.items():
            if metric.startswith(ours):
                place = f"{dataset}/{evaluator}"
                records.setdefault((place, "zeroshot_retrieval"), {})[theirs + metric.removeprefix(ours)] = value
    common = {"model": model, "pretrained": pretrained, "language": language}
    return [{"dataset": place, "task": task, "metrics": found, **common} for (place, task), found in records.items()]


def results(
    metrics: Mapping[str, Mapping[str, float]],
    *,
    dataset: str,
    model: str,
    pretrained: Mapping[str, str],
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of results.json.

    Args:
        metrics: column -> flat metrics, such as `{"before": ..., "after": ...}`.
        dataset: name of the data.
        model: open_clip's name of the architecture.
        pretrained: column -> tag or file of its weights.
        about: what else belongs there: versions, commit, seconds.
    """
    records = [
        record
        for column, values in metrics.items()
        for record in clip_benchmark_records(values, dataset=dataset, model=model, pretrained=pretrained[column])
    ]
    flat = {column: dict(values) for column, values in metrics.items()}
    return {**(about or {}), "dataset": dataset, "model": model, "metrics": flat, "clip_benchmark": records}
